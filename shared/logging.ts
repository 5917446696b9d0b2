import { Logger } from "@aws-lambda-powertools/logger";

export type { Logger };

/** One structured log line per outcome. Nothing that holds a token or a body is ever passed to it. */
export function createLogger(serviceName: string): Logger {
  return new Logger({ serviceName });
}
