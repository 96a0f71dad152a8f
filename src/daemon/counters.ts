/** What the slow path counts: the kernel counts its own part in maps. */
export class SlowCounters {
  readonly listeners = new Map<string, { connections: number; requests: number; noRoute: number }>();
  readonly routes = new Map<string, number>();
  readonly endpoints = new Map<string, EndpointCounts>();
  readonly flags = new Map<string, number>();
  /** By cluster, and by listener: Envoy's names for what was retried, refused or cut off. */
  readonly clusters: Counted = new Map();
  readonly ends: Counted = new Map();

  count(owners: Counted, owner: string, what: string): void {
    const counts = getOr(owners, owner, () => new Map<string, number>());
    counts.set(what, (counts.get(what) ?? 0) + 1);
  }

  listener(name: string) {
    return getOr(this.listeners, name, () => ({ connections: 0, requests: 0, noRoute: 0 }));
  }

  endpoint(name: string): EndpointCounts {
    return getOr(this.endpoints, name, () => ({
      requests: 0,
      active: 0,
      byClass: [0, 0, 0, 0, 0],
      requestBytes: 0,
      responseBytes: 0,
      timeMs: 0,
    }));
  }

  /** Milliseconds. */
  answered(endpoint: string, status: number, bytes: number, ms: number): void {
    const counts = this.endpoint(endpoint);
    counts.responseBytes += bytes;
    counts.byClass[Math.min(5, Math.floor(status / 100)) - 1]!++;
    counts.timeMs += ms;
  }

  route(name: string): void {
    this.routes.set(name, (this.routes.get(name) ?? 0) + 1);
  }

  flag(name: string): void {
    this.flags.set(name, (this.flags.get(name) ?? 0) + 1);
  }
}

type Counted = Map<string, Map<string, number>>;

export interface EndpointCounts {
  requests: number;
  active: number;
  /** 1xx .. 5xx */
  byClass: [number, number, number, number, number];
  requestBytes: number;
  responseBytes: number;
  timeMs: number;
}

function getOr<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  const found = map.get(key);
  if (found !== undefined) return found;
  const made = make();
  map.set(key, made);
  return made;
}
