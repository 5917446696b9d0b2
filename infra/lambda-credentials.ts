/**
 * Stands in for `@aws-sdk/credential-provider-node` in the bundles. A Lambda function's credentials are always in its
 * environment; the SDK's chain of profiles, SSO and metadata services would only be read and parsed at each cold start.
 */
export function defaultProvider() {
  return async () => ({
    accessKeyId: process.env.AWS_ACCESS_KEY_ID,
    secretAccessKey: process.env.AWS_SECRET_ACCESS_KEY,
    sessionToken: process.env.AWS_SESSION_TOKEN,
  });
}
