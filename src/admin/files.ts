import { readFileSync } from "node:fs";
import { getSystemErrorMap } from "node:util";

/** The bytes of a file that the user named. Throws an error that says which file, and what the matter is with it. */
export function readNamed(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    const { errno, message } = error as NodeJS.ErrnoException;
    throw new Error(`${path}: ${getSystemErrorMap().get(errno ?? 0)?.[1] ?? message}`);
  }
}
