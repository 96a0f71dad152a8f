import type { Priority } from "../model/limits.ts";
import type { Timeouts } from "../route/timeouts.ts";
import {
  type Body,
  closesAfter,
  type Field,
  parseResponse,
  type RequestLine,
  responseBody,
  writeHead,
} from "./http1.ts";
import type { MirrorTo, RoutedHead } from "./ports.ts";
import { BodyReader, Broken, chunk, lastChunk, write } from "./source.ts";
import type { Place, Upload } from "./upload.ts";
import { ConnectFailed, once, type Upstream, type Upstreams } from "./upstream.ts";
import { Deadline } from "./watch.ts";

const MAX_RESPONSE_HEAD = 64 << 10;

interface Mirrored {
  readonly request: RequestLine;
  /** As it went on to the first server. */
  readonly head: RoutedHead;
  readonly body: Body;
  readonly timeouts: Timeouts;
  readonly tenant: number;
  readonly priority: Priority;
}

/**
 * Sends a request to one more server, as it comes, and drops what that answers. It never fails: nobody waits for it. As
 * in Envoy (source/common/router/shadow_writer_impl.cc) its route's timeout holds for it too, from the request's end;
 * `signal` ends it before.
 */
export async function sendMirror(
  mirror: MirrorTo,
  what: Mirrored,
  upload: Upload,
  upstreams: Upstreams,
  signal: AbortSignal,
): Promise<void> {
  const { to, marksHost, ...destination } = mirror;
  const { tenant, priority } = what;
  const target = { ...destination, tenant, priority, address: to.address };
  const place = upload.join();
  const up = await upstreams.acquire(target, false, signal).catch((error) => {
    if (error instanceof ConnectFailed) to.came({ kind: "failed" });
  });
  if (up === undefined) {
    upload.leave(place);
    return;
  }
  to.came({ kind: "connected", isAll: false });
  const copy = new Copy(what, upload, up, (status) => to.came({ kind: "answered", status }));
  const leave = once(() => upstreams.detach(target));
  const end = () => up.socket.destroy();
  const limit = new Deadline();
  let isLate = false;
  signal.addEventListener("abort", end);
  to.started();
  try {
    await copy.send(place, marksHost);
    limit.set(what.timeouts.wholeMs, () => {
      isLate = true;
      end();
    });
    const isGood = await copy.drop();
    leave();
    if (isGood) upstreams.giveBack(target, up);
    else end();
  } catch {
    end();
    if (!isLate && !signal.aborted) to.came({ kind: "failed" });
    else if (isLate && copy.status === undefined) to.came({ kind: "timedOut", status: what.timeouts.lateStatus });
  } finally {
    signal.removeEventListener("abort", end);
    upload.leave(place);
    limit.stop();
    leave();
    to.ended(copy.status, copy.sent, copy.received);
  }
}

/** One request on its way to the server that only gets a copy. */
class Copy {
  sent = 0;
  received = 0;
  status: number | undefined;
  readonly #what: Mirrored;
  readonly #upload: Upload;
  readonly #up: Upstream;
  readonly #answered: (status: number) => void;

  constructor(what: Mirrored, upload: Upload, up: Upstream, answered: (status: number) => void) {
    this.#what = what;
    this.#upload = upload;
    this.#up = up;
    this.#answered = answered;
  }

  async send(place: Place, marksHost: boolean): Promise<void> {
    const { request, head, body } = this.#what;
    const host = marksHost ? withMark(head.authority) : head.authority;
    const headers = head.headers.map(([name, value]): Field => [name, name.toLowerCase() === "host" ? host : value]);
    await this.#write(writeHead(`${request.method} ${head.path} HTTP/1.1`, headers));
    for (let data = await this.#upload.next(place); data; data = await this.#upload.next(place))
      await this.#write(body.kind === "chunked" ? chunk(data) : data);
    if (body.kind === "chunked") await this.#write(lastChunk(this.#upload.trailers));
  }

  async #write(bytes: Buffer): Promise<void> {
    this.sent += bytes.length;
    await write(this.#up.socket, bytes);
  }

  /** Takes the answer in. True: the connection may serve another request. */
  async drop(): Promise<boolean> {
    for (;;) {
      const head = await this.#up.source.head(MAX_RESPONSE_HEAD);
      if (head === undefined) throw new Broken("the server closed");
      this.received += head.length;
      const response = parseResponse(head);
      if (response.status === 101) return false;
      if (response.status < 200) continue;
      this.status = response.status;
      this.#answered(response.status);
      const body = responseBody(response, this.#what.request.method);
      const reader = new BodyReader(this.#up.source, body, 502);
      for (let data = await reader.next(); data; data = await reader.next()) this.received += data.length;
      return body.kind !== "untilClose" && !closesAfter(response);
    }
  }
}

/**
 * `a.test:80` -> `a.test-shadow:80`, whatever stands behind the last colon that is none of an IPv6 address:
 * Utility::appendToHost in source/common/http/utility.cc.
 */
export function withMark(host: string): string {
  const colon = host.lastIndexOf(":");
  const end = colon > host.lastIndexOf("]") ? colon : host.length;
  return `${host.slice(0, end)}-shadow${host.slice(end)}`;
}
