import {
  Reason,
  reasonWords,
  XLB_MAX_BODY,
  XLB_MAX_HEAD,
  XLB_MAX_HEADER_COUNT,
  XLB_MAX_HOST,
} from "../tables/layout.gen.ts";

/** Why the kernel path leaves a request to the slow path: a reason of docs/reasons.md, and the request's part in it. */
export interface Declined {
  readonly reason: string;
  readonly why: string;
}

export const declined = (reason: keyof typeof Reason, why: string): Declined => ({
  reason: reasonWords[Reason[reason]]!,
  why,
});

/**
 * What of a whole request head makes the request hook decline: `bpf/steps/parse.h` and `read_head` of
 * `bpf/hooks/request.h`, in their order. `asked` are the header names that rules ask for, where the listener's rules
 * ask for any.
 */
export function declineHead(head: Buffer, asked: ReadonlySet<string>): Declined | undefined {
  const [first = "", ...lines] = head.toString("latin1", 0, head.length - "\r\n\r\n".length).split("\r\n");
  const state: State = { asked, seen: new Set(), length: 0, count: 0 };
  let end = first.length;
  let found = declineFirstLine(first);
  for (const line of lines) {
    if (found !== undefined) return found;
    end += "\r\n".length + line.length;
    found = end >= LONGEST ? TOO_LONG : declineField(line, state);
  }
  if (found !== undefined) return found;
  if (end + "\r\n".length >= LONGEST) return TOO_LONG;
  if (!state.seen.has("host")) return declined("badRequest", "it has no Host");
  if (state.length > XLB_MAX_BODY)
    return declined("bodyTooLarge", `its Content-Length of ${state.length} is over ${XLB_MAX_BODY}`);
  return undefined;
}

/** The parser looks 16 bytes ahead. */
const LONGEST = XLB_MAX_HEAD - 16;
const TOO_LONG = declined("headTooLarge", `its head is over ${LONGEST} bytes`);

const METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"];

function declineFirstLine(line: string): Declined | undefined {
  const [method = "", target = "", ...rest] = line.split(" ");
  const version = rest.join(" ");
  if (!METHODS.includes(method)) return declined("method", `its method is ${method}, none of ${METHODS.join(", ")}`);
  if (!target.startsWith("/")) return declined("targetForm", `its target ${target} does not begin with /`);
  if (/[^!-~]|#/.test(target)) return declined("badRequest", "its target is not plain ASCII");
  if (line.length >= LONGEST) return TOO_LONG;
  if (version === "HTTP/1.1") return undefined;
  return /^HTTP(?!\/1\.1)/.test(version)
    ? declined("notHttp11", `its version is ${version}`)
    : declined("badRequest", "its first line is not a method, a target and a version");
}

interface State {
  readonly asked: ReadonlySet<string>;
  readonly seen: Set<string>;
  length: number;
  count: number;
}

function declineField(line: string, state: State): Declined | undefined {
  const written = line.slice(0, line.indexOf(":"));
  const value = line.slice(written.length + 1).replace(/^[ \t]+|[ \t]+$/g, "");
  const name = written.toLowerCase();
  const again = state.seen.has(name);
  state.seen.add(name);
  const found = declineName(name, written) ?? declineValue({ name, written, value, again }, state);
  if (found !== undefined) return found;
  if (again && state.asked.has(name))
    return declined("multiValuedHeader", `it has ${written}, which rules ask for, twice`);
  if (++state.count > XLB_MAX_HEADER_COUNT)
    return declined("headTooLarge", `it has over ${XLB_MAX_HEADER_COUNT} header fields`);
  return undefined;
}

function declineName(name: string, written: string): Declined | undefined {
  switch (name) {
    case "transfer-encoding":
      return declined("transferEncoding", `it has ${written}`);
    case "upgrade":
    case "http2-settings":
      return declined("upgrade", `it has ${written}`);
    case "expect":
      return declined("expect", `it has ${written}`);
    case "te":
    case "proxy-connection":
    case "keep-alive":
      return declined("connectionHeader", `it has ${written}`);
    default:
      return undefined;
  }
}

interface HeaderField {
  /** In lower case. */
  readonly name: string;
  readonly written: string;
  readonly value: string;
  readonly again: boolean;
}

function declineValue({ name, written, value, again }: HeaderField, state: State): Declined | undefined {
  if (/[^\t -~]/.test(value)) return declined("badRequest", `its ${written} is not plain ASCII`);
  switch (name) {
    case "host":
      if (again) return declined("badRequest", "it has two Hosts");
      if (value === "" || value.length > XLB_MAX_HOST)
        return declined("badRequest", `its Host has ${value.length} bytes, not 1 to ${XLB_MAX_HOST}`);
      return undefined;
    case "content-length":
      if (again || !/^\d{1,18}$/.test(value)) return declined("badRequest", "its Content-Length is no single number");
      state.length = Number(value);
      return undefined;
    case "connection":
      if (again) return declined("connectionHeader", "it has Connection twice");
      return /^(?:keep-alive|close)$/i.test(value)
        ? undefined
        : declined("connectionHeader", `its Connection says ${JSON.stringify(value)}, not keep-alive or close`);
    default:
      return undefined;
  }
}
