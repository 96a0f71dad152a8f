import type { Socket } from "node:net";
import type { Address, ForwardAction, HttpChain, TcpChain } from "../model/config.ts";
import type { Breakers, Keepalive, SocketOptions, UpstreamOptions } from "../model/limits.ts";
import type { Outcome } from "../route/outlier.ts";
import type { ClusterCounter } from "./breakers.ts";
import type { Field } from "./http1.ts";

/** What the rules see of a request. */
export interface RoutedHead {
  readonly method: string;
  readonly authority: string;
  readonly path: string;
  readonly headers: readonly Field[];
  /** Of an absolute target. Missing: http. */
  readonly scheme?: "http" | "https";
  /** There is no route for it, whatever the rules say. */
  readonly isLost?: true;
}

/** What of a request, beside its head, the rules may speak of. */
export interface Circumstances {
  readonly tenant: number;
  /** Missing: the connection is closed already. */
  readonly client: Address | undefined;
  /** Where the client wanted to go; missing where that is not known. */
  readonly original?: Address | undefined;
  /** What the client connected to; missing as above. */
  readonly local: Address | undefined;
  readonly protocol: "HTTP/1.0" | "HTTP/1.1";
  /** Milliseconds since 1970. */
  readonly startedMs: number;
  /** The protocol that the client asks to change to, in lower case. */
  readonly upgrade: string | undefined;
  /** Of another try: the cluster of the first. */
  readonly cluster?: string | undefined;
}

/** How the heads of a request and its response change on their way. */
export interface Edits {
  request(head: RoutedHead): RoutedHead;
  /** The head as it goes to an endpoint of that name; `head` is as it went to the one before, if there was one. */
  atEndpoint(head: RoutedHead, hostname: string): RoutedHead;
  /** `request` is the head that went on to the endpoint, or as it came where none did. */
  response(fields: readonly Field[], request: RoutedHead): readonly Field[];
}

/** Envoy's response flags, as far as they can occur here. */
export type Flag =
  | "NR"
  | "UH"
  | "NC"
  | "UF"
  | "UC"
  | "UT"
  | "UO"
  | "URX"
  | "SI"
  | "DT"
  | "UMSDR"
  | "UPE"
  | "DC"
  | "DPE"
  | "DO"
  | "FI";

/** What a listener counts of what it ended, by Envoy's names. */
export type ListenerCounter =
  | "downstream_cx_idle_timeout"
  | "downstream_cx_max_duration_reached"
  | "downstream_cx_max_requests_reached"
  | "downstream_rq_idle_timeout"
  | "downstream_rq_timeout"
  | "downstream_rq_header_timeout"
  | "downstream_rq_max_duration_reached";

/** A cluster, as far as connections to it are concerned. */
export interface Destination {
  readonly cluster: string;
  readonly connectTimeoutMs: number;
  readonly breakers: Breakers;
  readonly upstream: UpstreamOptions;
  readonly sockets?: SocketOptions;
}

/** One request, or one more time the same, at one endpoint. */
export interface Try {
  readonly address: Address;
  /** The endpoint's; "" where it has none. */
  readonly hostname: string;
  /** Called once when the request leaves for the endpoint, and once when it is over. */
  started(): void;
  ended(status: number | undefined, requestBytes: number, responseBytes: number): void;
  /** What came of it, as outlier detection has to know: of one try first a connection, or none, then an answer ... */
  came(outcome: Outcome): void;
}

export type Decision =
  | ({
      readonly kind: "forward";
      readonly action: ForwardAction;
      readonly edits: Edits;
      /** Goes behind the fields of the endpoint's answer, before these are edited. */
      readonly added: readonly Field[];
      readonly first: Try;
      /** An endpoint for one more try, rather none of those; undefined: there is no healthy one. `head`: as it went. */
      again(tried: readonly Address[], head: RoutedHead): Try | undefined;
      /** Where else it goes. */
      mirrors(head: RoutedHead): readonly MirrorTo[];
    } & Destination)
  | {
      readonly kind: "reply";
      readonly status: number;
      /** Missing: the configuration asks for this answer. */
      readonly flag: Flag | undefined;
      /** Goes before the fields that every reply has. */
      readonly fields: readonly Field[];
      /** A character for each byte. */
      readonly body: string;
      /** Without a body it has a type all the same. */
      readonly keepsType?: boolean;
    }
  | {
      /** The fault filter keeps it waiting; then what it comes to is asked for. */
      readonly kind: "wait";
      readonly ms: number;
      /** Of its route, where that leads to a cluster. */
      readonly edits: Edits | undefined;
      next(): Decision;
    };

/** Where the bytes of a connection go, by tcp_proxy. */
export type TcpDecision = TcpForward | { readonly kind: "close"; readonly flag: Flag };

export interface TcpForward extends Destination {
  readonly kind: "forward";
  readonly address: Address;
  /** Called once when the connection is there, and once when it is over. */
  started(): void;
  ended(requestBytes: number, responseBytes: number): void;
  /** What came of an attempt to connect. */
  came(outcome: Outcome): void;
}

export interface MirrorTo extends Destination {
  readonly to: Try;
  /** `-shadow` goes behind the name of its host. */
  readonly marksHost: boolean;
}

export interface Ports {
  /** An address of this machine by which others know it. */
  readonly machineIp: string;
  /** Chooses a cluster for a connection; what comes back picks an endpoint of it, for each attempt anew. */
  connect(chain: TcpChain, original: Address | undefined, client: Address | undefined): () => TcpDecision;
  /** A connection by tcp_proxy is over, with the reason where it found no endpoint. */
  closed(chain: TcpChain, flag: Flag | undefined): void;
  decide(listener: HttpChain, head: RoutedHead, circumstances: Circumstances): Decision;
  /** One request, with the response flag of a local reply or failure, if any. */
  finished(listener: HttpChain, flag: Flag | undefined, details: string): void;
  /** Requests that a cluster has in service, by both paths. */
  active(cluster: string): number;
  /** The requests among them, of default priority, where the kernel path counts those of a cluster; else 0. */
  counted(cluster: string): number;
  countCluster(cluster: string, what: ClusterCounter): void;
  countListener(listener: HttpChain, what: ListenerCounter): void;
  log(fields: object, message: string): void;
  /** Asked at the end of a server's stream: did it come by a reset? Without it, resets that libuv hides go unseen. */
  wasReset?(socket: Socket): boolean;
  /** What the system holds of a socket that has failed, and is still open. Without it Node drops that. */
  unread?(socket: Socket): Buffer;
  /** Without it Node's own way is taken, which knows of `time` alone. */
  setKeepalive?(socket: Socket, keepalive: Keepalive): void;
}

/** Where a client connection comes from and whom to tell about it. */
export interface Downstream {
  readonly listener: HttpChain;
  readonly original?: Address | undefined;
  readonly tenant: number;
  /** All bytes that came were answered and all answers have left: totals since the beginning. */
  onIdle?(read: number, written: number): void;
  /** Awaited before the first byte of an answer: an answer by another way may be under way still. */
  gate?(): Promise<void>;
  /** Asked before bytes are taken for a request: true where they are none, and the connection is being ended. */
  broken?(): boolean;
  /** A request that a server has seen once already: served before the stream's own, on a fresh connection. */
  readonly initial?: Lost;
}

/** A request whose server went away without an answer. */
export interface Lost {
  readonly request: Buffer;
  /** Missing: nobody knows it any more. */
  readonly server: Address | undefined;
  /** The name of the server's cluster, which another try goes to as well; missing as above. */
  readonly cluster: string | undefined;
}

/** A connection that the slow path serves, for those who know what else happens to it. */
export interface Session {
  /**
   * Serves a request that a server has already seen once, as {@link Downstream.initial}. False, and nothing happens,
   * where another one is being served.
   */
  inject(lost: Lost): boolean;
  /** Answers a request that is lost to its server, and closes. False, and nothing happens, as above. */
  refuse(status: number, body: string, extra: readonly Field[]): boolean;
  /** Nothing of this connection is read or served from now on; the caller ends it. */
  discard(): void;
}

/** The same for who serves them. */
export interface Served extends Session {
  /** Until the connection has closed. Once. */
  serve(): Promise<void>;
  /** It ends as soon as nothing is under way. */
  endIfIdle(): Promise<void>;
  destroy(): void;
}

export type Forward = Extract<Decision, { kind: "forward" }>;
