/**
 * Nobody changes a client's middleware once it sends, so it is put together once for each kind of request and not for each
 * request: a tenth of a warm share's CPU time (`npm run bench -- --only command.cpu`).
 */
const settings = { cacheMiddleware: true };

/** A client of AWS as every function makes it. */
export function awsClient<Client extends Removing>(Made: new (about: typeof settings) => Client): Client {
  const client = new Made(settings);
  // It copies each request and answer, field by field, for a logger that nobody set.
  client.middlewareStack.remove("loggerMiddleware");
  return client;
}

type Removing = { middlewareStack: { remove(name: string): boolean } };
