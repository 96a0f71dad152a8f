import type { Native } from "../kernel/datapath.ts";

/** Why the kernel path cannot work on this machine; undefined when it can. */
export function probeKernelPath(_native: Native): string | undefined {
  return process.getuid?.() === 0 ? undefined : "it needs root";
}
