/**
 * How functions make their clients of AWS. Nobody changes a client's middleware once it sends, so it is put together once
 * for each kind of request and not for each request: a tenth of a warm share's CPU time (`npm run bench -- --only command.cpu`).
 */
export const clientSettings = { cacheMiddleware: true };
