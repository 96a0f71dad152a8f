/**
 * What every client here reads and prints, one JSON object a line. In: connections, one after the other, each with the
 * requests to send over it. Out: one answer for each request, in order, then the client ends.
 */
export interface Connection {
  readonly ip: string;
  readonly port: number;
  readonly requests: readonly Spec[];
}

export interface Spec {
  readonly id: number;
  readonly method: string;
  readonly target: string;
  /** `Host` first; never those that frame the body. */
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly body: BodySpec | null;
}

/** Byte i of a body is `seed + 7 i + 13 (i >> 8) + 31 (i >> 16)`, so that a misplaced piece changes the hash. */
export interface BodySpec {
  readonly framing: "length" | "chunked";
  readonly size: number;
  readonly seed: number;
  /** The sizes of the writes; the rest is the last. */
  readonly splits: readonly number[];
  /** Milliseconds between the writes. */
  readonly pause: number;
}

/** What a client's library shows of an answer. */
export interface Answer {
  readonly id: number;
  readonly status?: number;
  readonly reason?: string;
  readonly headers?: readonly (readonly [name: string, value: string])[];
  readonly trailers?: readonly (readonly [name: string, value: string])[];
  readonly length?: number;
  readonly sha256?: string;
  readonly error?: string;
}
