import type { Socket } from "node:net";
import { hostname } from "node:os";
import type { Logger } from "pino";
import { boundOf } from "../compile/limits.ts";
import type { Outliers } from "../health/outliers.ts";
import type { Datapath } from "../kernel/datapath.ts";
import * as shim from "../kernel/native.ts";
import type { Address, Cluster, Endpoint, HttpChain, Listener, TcpChain } from "../model/config.ts";
import { DEFAULT_BREAKERS, DEFAULT_UPSTREAM, type Keepalive } from "../model/limits.ts";
import { plainConnection } from "../route/chain.ts";
import { ATTEMPT_COUNT } from "../slowpath/exchange.ts";
import type { Field } from "../slowpath/http1.ts";
import type {
  Circumstances,
  Decision,
  Destination,
  Lost as LostRequest,
  RoutedHead,
  Session,
  TcpDecision,
  Try,
} from "../slowpath/ports.ts";
import { SlowPath } from "../slowpath/slowpath.ts";
import { endpointName, fromAddrKey, unmapped } from "../tables/address.ts";
import type { Ids } from "../tables/compiled.ts";
import { addrKeyRow } from "../tables/layout.gen.ts";
import type { Anchor, Connections } from "./connections.ts";
import type { SlowCounters } from "./counters.ts";
import type { EditAnswer, KernelPath, Lost } from "./kernel-path.ts";
import { machineIp } from "./machine.ts";
import type { Choice, ReferenceRouter } from "./router.ts";

const LOST: Readonly<Record<Lost, { status: number; flag: string; body: string }>> = {
  terminated: {
    status: 503,
    flag: "UC",
    body: "upstream connect error or disconnect/reset before headers. reset reason: connection termination",
  },
  timeout: { status: 504, flag: "UT", body: "upstream request timeout" },
  protocol: {
    status: 502,
    flag: "UPE",
    body: "upstream connect error or disconnect/reset before headers. reset reason: protocol error",
  },
};

interface Kernel {
  readonly datapath: Datapath;
  readonly path: KernelPath;
  readonly ids: Ids;
}

/** -1: it has none any more. */
function fdOf(socket: Socket): number {
  const { _handle: handle } = socket as unknown as { readonly _handle?: { readonly fd?: number } };
  return handle?.fd ?? -1;
}

/** A reset leaves its error with the socket until somebody asks. */
function wasReset(socket: Socket): boolean {
  const fd = fdOf(socket);
  return fd >= 0 && shim.sockError(fd) !== 0;
}

/** An answer that is read although its server is not: no more of it than this. */
const MOST_UNREAD = 4 << 20;

function unread(socket: Socket): Buffer {
  const fd = fdOf(socket);
  const parts: Buffer[] = [];
  for (let bytes = 0; fd >= 0 && bytes < MOST_UNREAD; bytes += parts.at(-1)!.length) {
    const part = tryRead(fd);
    if (part === null || part.length === 0) break;
    parts.push(part);
  }
  return Buffer.concat(parts);
}

function tryRead(fd: number): Buffer | null {
  try {
    return shim.recvNonblock(fd, 256 << 10);
  } catch {
    /* Nothing comes before the reset any more. */
    return null;
  }
}

function setKeepalive(socket: Socket, keepalive: Keepalive): void {
  const fd = fdOf(socket);
  if (fd >= 0) shim.setKeepalive(fd, keepalive);
}

/** The slow path with what it needs of the rest: the rules, the counters, and the kernel's say in who may answer. */
export class SlowSide {
  readonly #router: ReferenceRouter;
  readonly #counters: SlowCounters;
  readonly #outliers: Outliers;
  readonly #slowPath: SlowPath;
  readonly #hostname = hostname();
  #kernel: Kernel | undefined;

  constructor(router: ReferenceRouter, counters: SlowCounters, outliers: Outliers, log: Logger) {
    this.#router = router;
    this.#counters = counters;
    this.#outliers = outliers;
    this.#slowPath = new SlowPath({
      machineIp: machineIp(),
      decide: (listener, head, circumstances) => this.#decide(listener, head, circumstances),
      connect: (chain, original, client) => this.#connect(chain, original, client),
      closed: (_chain, flag) => {
        if (flag !== undefined) counters.flag(flag);
      },
      finished: ({ listener }, flag) => {
        counters.listener(listener).requests++;
        if (flag !== undefined) counters.flag(flag);
      },
      active: (cluster) => router.active(cluster),
      counted: (cluster) => this.#counted(cluster),
      countCluster: (cluster, what) => counters.count(counters.clusters, cluster, what),
      countListener: ({ listener }, what) => counters.count(counters.ends, listener, what),
      log: (fields, message) => log.debug(fields, message),
      ...(shim.unavailable() ? {} : { wasReset, unread, setKeepalive }),
    });
  }

  get open(): number {
    return this.#slowPath.open;
  }

  joinKernel(datapath: Datapath, path: KernelPath, ids: Ids): void {
    this.#kernel = { datapath, path, ids };
  }

  /** Requests in service at an endpoint, by both paths. */
  active(cluster: string, endpoint: Endpoint): number {
    const name = endpointName(cluster, endpoint);
    const id = this.#kernel?.ids.endpoints.get(name);
    if (this.#kernel && id !== undefined) return this.#kernel.datapath.active(id);
    return this.#counters.endpoint(name).active;
  }

  serveAnchor(
    anchor: Anchor,
    stream: Socket,
    initial: LostRequest | undefined,
    listener: Listener | undefined,
  ): Session | undefined {
    const kernel = this.#kernel!;
    if (!listener) {
      stream.destroy();
      return undefined;
    }
    const { connections } = kernel.path;
    const source = fromAddrKey(addrKeyRow.decode(anchor.key));
    const original = fromAddrKey(anchor.info.destination);
    const connection = plainConnection(original, source);
    const spokeHttp = () => connections.spokeHttp(anchor);
    return this.#slowPath.accept(
      stream,
      { listener, connection, original, spokeHttp },
      {
        tenant: anchor.info.tenant,
        onIdle: (read, written) => kernel.datapath.slowDone(anchor.key, anchor.cookie, read, written + anchor.beside),
        gate: () => connections.answered(anchor),
        broken: () => connections.broken(anchor),
        ...(initial ? { initial } : {}),
      },
    );
  }

  serveSocket(socket: Socket, listener: Listener): void {
    this.#counters.listener(listener.name).connections++;
    const end = (ip = "", port = 0): Address => ({ ip: unmapped(ip), port });
    const source = socket.remoteAddress === undefined ? undefined : end(socket.remoteAddress, socket.remotePort);
    const connection = plainConnection(end(socket.localAddress, socket.localPort), source);
    this.#slowPath.accept(socket, { listener, connection, original: undefined, spokeHttp: () => false }, { tenant: 0 });
  }

  /** Answers for a server that failed a request of the kernel path before it said a word. */
  refuse(connections: Connections, anchor: Anchor, why: Lost, edit: EditAnswer, listener: Listener | undefined): void {
    const { status, flag, body } = LOST[why];
    const fields = edit([]);
    this.#counters.flag(flag);
    if (listener) this.#counters.listener(listener.name).requests++;
    if (anchor.session?.refuse(status, body, fields)) return;
    connections.answer(anchor, (stream) => void this.#slowPath.refuse(stream, status, body, fields));
  }

  async drain(graceMs: number): Promise<void> {
    await this.#slowPath.drain(graceMs);
  }

  #decide(listener: HttpChain, head: RoutedHead, circumstances: Circumstances): Decision {
    const { upgrade, original, cluster, ...occasion } = circumstances;
    const where = { upgrade, original, cluster };
    const choice = this.#router.choose(listener, head, { ...occasion, hostname: this.#hostname }, where);
    return this.#decided(choice, listener, head, circumstances);
  }

  #decided(choice: Choice, listener: HttpChain, head: RoutedHead, circumstances: Circumstances): Decision {
    if (choice.kind === "fault") {
      const { editor } = choice;
      const { delayMs, reply } = choice.injected;
      /* Of a route that leads to a cluster, edits of requests have not been made yet, but those of answers are. */
      const fields = (own: readonly Field[]) => editor?.response(own, head) ?? own;
      const next = (): Decision =>
        reply === undefined
          ? this.#decided(choice.go(), listener, head, circumstances)
          : { kind: "reply", flag: "FI", keepsType: true, ...reply, fields: fields(reply.fields) };
      return delayMs > 0 ? { kind: "wait", ms: delayMs, edits: editor, next } : next();
    }
    if (choice.kind === "noRoute") {
      this.#counters.listener(listener.listener).noRoute++;
      return { kind: "reply", status: 404, flag: "NR", fields: [], body: "" };
    }
    /* As in Envoy, a rule of what answers counts for nothing then. */
    const { editor } = choice;
    if (choice.kind === "noUpgrade")
      return { kind: "reply", status: 403, flag: undefined, fields: editor.response([], head), body: "" };
    switch (choice.kind) {
      case "answer": {
        this.#counters.route(choice.route.name);
        const { status, fields, body } = choice.answer;
        return { kind: "reply", status, flag: undefined, fields: editor.response(fields, choice.head), body };
      }
      case "noCluster":
        return { kind: "reply", status: choice.status, flag: "NC", fields: editor.response([], head), body: "" };
      case "dropped": {
        this.#counters.route(choice.route.name);
        /* Envoy has other words for dropping them all. */
        const whole = choice.whole ? "unconditional-" : "";
        const told: Field[] = listener.routes.suppressesOwn ? [] : [[`x-envoy-${whole}drop-overload`, "true"]];
        const fields = editor.response(told, head);
        const body = `${whole.replace("-", " ")}drop overload`;
        return { kind: "reply", status: 503, flag: "DO", fields, body };
      }
      case "noHost": {
        this.#counters.route(choice.route.name);
        const { action } = choice.route;
        /* To Envoy it is on its way by now, for the first time. */
        const told: Field[] = action.kind === "forward" && action.tellsAttempts ? [[ATTEMPT_COUNT, "1"]] : [];
        const fields = editor.response(told, editor.request(head));
        return { kind: "reply", status: 503, flag: "UH", fields, body: "no healthy upstream" };
      }
      case "endpoint":
        this.#counters.route(choice.route.name);
        return this.#forward(choice, circumstances);
      default:
        return choice satisfies never;
    }
  }

  #connect(chain: TcpChain, original: Address | undefined, client: Address | undefined): () => TcpDecision {
    const pick = this.#router.connect(chain, original, client);
    return () => {
      const choice = pick();
      if (choice.kind !== "endpoint") return { kind: "close", flag: choice.kind === "noCluster" ? "NC" : "UH" };
      const { cluster, endpoint } = choice;
      const { address, started, ended, came } = this.#try(cluster, endpoint, 0, false);
      return {
        kind: "forward",
        ...destination(cluster),
        address,
        started,
        ended: (requestBytes, responseBytes) => ended(undefined, requestBytes, responseBytes),
        came,
      };
    };
  }

  #forward(choice: Extract<Choice, { kind: "endpoint" }>, { tenant, original }: Circumstances): Decision {
    const { cluster, endpoint, action, editor, cookies } = choice;
    const limited = action.priority !== "high";
    const attempts = action.retry?.avoidsTried ? action.retry.hostAttempts : 0;
    return {
      kind: "forward",
      ...destination(cluster),
      action,
      edits: editor,
      added: cookies.map((cookie) => ["set-cookie", cookie] as const),
      first: this.#try(cluster, endpoint, tenant, limited),
      again: (tried, head) => {
        const other = this.#router.again(choice, head, tried, attempts, original);
        return other && this.#try(cluster, other, tenant, limited);
      },
      mirrors: (head) =>
        this.#router.mirrors(action, head, original).map(({ to, endpoint, marksHost }) => ({
          ...destination(to),
          to: this.#try(to, endpoint, tenant, limited),
          marksHost,
        })),
    };
  }

  #counted(cluster: string): number {
    const breaker = this.#kernel?.ids.clusters.get(cluster);
    return breaker === undefined ? 0 : this.#kernel!.datapath.inBreaker(breaker);
  }

  /** One request, or one connection of tcp_proxy, at an endpoint. `limited`: max_requests is about it. */
  #try(cluster: Cluster, endpoint: Endpoint, tenant: number, limited: boolean): Try {
    /* Where clients want to go is without end: one row for all of it. */
    const asked = cluster.discovery?.kind === "originalDst";
    const name = asked ? `${cluster.name} original destination` : endpointName(cluster.name, endpoint);
    const counts = this.#counters.endpoint(name);
    const id = this.#kernel?.ids.endpoints.get(name);
    const breaker =
      limited && boundOf(cluster) !== undefined ? this.#kernel?.ids.clusters.get(cluster.name) : undefined;
    let since = 0;
    return {
      address: endpoint.address,
      hostname: endpoint.hostname ?? "",
      started: () => {
        since = performance.now();
        counts.requests++;
        counts.active++;
        if (id !== undefined) this.#kernel?.datapath.nowActive(id);
        if (breaker !== undefined) this.#kernel?.datapath.enterBreaker(breaker);
        /* The kernel may lack an i-sock for the next one too. */
        if (id !== undefined && tenant !== 0) this.#kernel?.path.wanted(tenant, id);
      },
      ended: (status, requestBytes, responseBytes) => {
        counts.active--;
        if (id !== undefined) this.#kernel?.datapath.noLongerActive(id);
        if (breaker !== undefined) this.#kernel?.datapath.leaveBreaker(breaker);
        counts.requestBytes += requestBytes;
        if (status === undefined) counts.responseBytes += responseBytes;
        else this.#counters.answered(name, status, responseBytes, performance.now() - since);
      },
      came: (outcome) => this.#outliers.outcome(cluster.name, name, outcome),
    };
  }
}

const destination = ({ name, connectTimeoutMs, breakers, upstream, sockets }: Cluster): Destination => ({
  cluster: name,
  connectTimeoutMs,
  breakers: breakers ?? DEFAULT_BREAKERS,
  upstream: upstream ?? DEFAULT_UPSTREAM,
  ...(sockets === undefined ? {} : { sockets }),
});
