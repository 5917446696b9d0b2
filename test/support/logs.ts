import { vi } from "vitest";

/** Catches what is written to the standard outputs from now on. */
export function captureLogs() {
  const chunks: string[] = [];
  function keep(chunk: unknown): boolean {
    chunks.push(String(chunk));
    return true;
  }
  const streams = [vi.spyOn(process.stdout, "write"), vi.spyOn(process.stderr, "write")];
  for (const stream of streams) stream.mockImplementation(keep);
  return {
    text: () => chunks.join(""),
    restore: () => streams.forEach((stream) => stream.mockRestore()),
  };
}
