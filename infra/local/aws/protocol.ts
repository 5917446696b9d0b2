/** An HTTP answer, whole. */
export type Answer = { status: number; headers: Record<string, string>; body: Buffer };

/** One operation of a service that speaks AWS's JSON protocol. */
export type Operation = (input: unknown) => Answer;

export function jsonAnswer(value: unknown, status = 200): Answer {
  return {
    status,
    headers: { "content-type": "application/x-amz-json-1.1" },
    body: Buffer.from(JSON.stringify(value)),
  };
}

export function errorAnswer(type: string, message: string, status = 400): Answer {
  return jsonAnswer({ __type: type, message }, status);
}
