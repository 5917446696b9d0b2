import { $ZodError } from "zod/v4/core";

/** Of an item that this release cannot read: a newer one wrote it and was rolled back, or a hand did. */
export type Unreadable = "unreadable";

/** What is read, where one bad item must not keep others from being served. Any other failure is thrown on. */
export async function ifReadable<T>(reading: Promise<T>): Promise<T | Unreadable> {
  try {
    return await reading;
  } catch (error) {
    if (error instanceof $ZodError) return "unreadable";
    throw error;
  }
}
