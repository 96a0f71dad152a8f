import { existsSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { type Logger, pino } from "pino";
import { readNamed } from "../admin/files.ts";
import { AdminSocketError, serveAdmin } from "../admin/server.ts";
import { holdRoot, leaveRoot } from "../admin/workloads.ts";
import { editFields } from "../compile/apply-edits.ts";
import { compile, withEndpoints } from "../compile/compile.ts";
import { formatRejections, parseBootstrap } from "../envoy/parse.ts";
import { Outliers } from "../health/outliers.ts";
import { Datapath, type Native } from "../kernel/datapath.ts";
import * as shim from "../kernel/native.ts";
import { allChains, httpChains } from "../model/chains.ts";
import type { Cluster, Config, Listener } from "../model/config.ts";
import { entranceOf, inspectedOf } from "../route/chain.ts";
import { withAddresses } from "../route/names.ts";
import { withEjections } from "../route/outlier.ts";
import { apply, blobOf, diff, type Installed } from "../sync/sync.ts";
import { type Address, addrKey, addrKeyBytes } from "../tables/address.ts";
import type { Ids, Tables } from "../tables/compiled.ts";
import type { AddrKey } from "../tables/layout.gen.ts";
import { kernelBalancing, slowClusters, standing } from "./balancing.ts";
import { SlowCounters } from "./counters.ts";
import { Dates } from "./dates.ts";
import { dumpMaps } from "./dump.ts";
import { allEndpoints, requestClusters } from "./endpoints.ts";
import { KernelPath } from "./kernel-path.ts";
import { KernelTally } from "./kernel-tally.ts";
import { Names } from "./names.ts";
import type { RunOptions } from "./options.ts";
import { openKernelPath } from "./probe.ts";
import { ReferenceRouter } from "./router.ts";
import { SlowSide } from "./slow.ts";
import { collectStats } from "./stats.ts";

const OK = 0;
const FAILED = 1;

/** How long a start waits for the first answers of DNS; what comes later is taken in then. Milliseconds. */
const FIRST_ANSWERS_MS = 5_000;

const later = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms).unref());

/** Requests in service may take this long to end after SIGTERM. Milliseconds. */
const DRAIN_MS = 5_000;

/** Lines of log, at start, on what needs the slow path. */
const MOST_NOTES = 32;

/**
 * Bytes that may lie unread at a client before its answer goes through the daemon. Enough for most bodies to arrive
 * whole, and few enough that a sleeping client costs the machine little.
 */
const RECEIVE_LIMIT = 2 << 20;

/** Which map bounds how many there may be of what; number 0 is nobody's. */
const CAPACITIES = [
  ["listener_counts", "listeners"],
  ["route_counts", "routes"],
  ["cluster_states", "clusters"],
  ["endpoint_states", "endpoints"],
] as const;

type Log = Logger;

/** Runs the daemon until SIGTERM or SIGINT; the answer is the exit status. Logs to stderr. */
export async function runDaemon(options: RunOptions): Promise<number> {
  const startedAt = performance.now();
  const log = pino({ level: options.logLevel, base: undefined }, pino.destination({ fd: 2, sync: true }));
  const name = options.configPath ?? "--config-yaml";
  let text: string;
  try {
    text = options.configPath === undefined ? (options.configYaml ?? "") : readNamed(options.configPath).toString();
  } catch (error) {
    process.stderr.write(`xlb: ${(error as Error).message}\n`);
    return FAILED;
  }
  const parsed = parseBootstrap(text, name, options.configPath === undefined ? undefined : options.configYaml);
  if (!parsed.ok) {
    for (const line of formatRejections(parsed.rejections, name)) process.stderr.write(`${line}\n`);
    return FAILED;
  }
  const asked = [
    ...options.cgroups.map((cgroup) => ["--cgroup", cgroup] as const),
    ...options.userspaceCgroups.map((cgroup) => ["--userspace-cgroup", cgroup] as const),
  ];
  for (const [flag, cgroup] of asked) {
    if (!existsSync(`${cgroup}/cgroup.procs`)) {
      process.stderr.write(`xlb: ${flag} ${cgroup}: no cgroup (v2) is there; make it first\n`);
      return FAILED;
    }
  }
  if (parsed.value.admin)
    log.warn("admin.address is not served: `xlb stats` and `xlb dump` say what Envoy's admin would");
  const daemon = new Daemon(parsed.value.config, log, options, startedAt);
  try {
    return await daemon.run();
  } catch (error) {
    if (error instanceof AdminSocketError) {
      process.stderr.write(`xlb: ${error.message}\n`);
    } else {
      log.error({ err: error }, "the daemon failed");
    }
    await daemon.stop(0);
    return FAILED;
  }
}

/** The numbers of endpoints that go, kept from others while there is room for it. */
function withRetired(ids: Ids, config: Config, most: number): Ids {
  const stay = new Set([...allEndpoints(config.clusters)].map(({ name }) => name));
  const gone = [...ids.endpoints].filter(([name]) => !stay.has(name)).map(([, id]) => id);
  const retired = [...(ids.retired ?? []), ...gone];
  return { ...ids, retired: new Set(retired.slice(-Math.max(1, Math.floor(most / 2 - stay.size)))) };
}

/** Is there a route that no server answers? */
const answersItself = ({ listeners }: Config) =>
  listeners
    .flatMap(httpChains)
    .some(({ routes }) => routes.virtualHosts.some((v) => v.routes.some((r) => r.action.kind !== "forward")));

/** Programs that are loaded, and the sockets on which the anchors will come: nothing is attached yet. */
interface Opened {
  readonly datapath: Datapath;
  readonly fds: readonly number[];
}

interface KernelSide {
  readonly datapath: Datapath;
  readonly path: KernelPath;
  readonly dates: Dates;
  tables: Tables;
  /** Missing before the switch. */
  installed: Installed | undefined;
}

class Daemon {
  /** As it was told. */
  readonly #told: Config;
  /** The same with the addresses that names stand for now, */
  #addressed: Config;
  /** ... and as it is while some of its endpoints are ejected. */
  #config: Config;
  readonly #names: Names;
  readonly #router: ReferenceRouter;
  /** By their numbers in the kernel. */
  readonly #endpoints = new Map<number, { readonly cluster: Cluster; readonly name: string }>();
  readonly #log: Log;
  readonly #options: RunOptions;
  readonly #startedAt: number;
  readonly #counters = new SlowCounters();
  readonly #slow: SlowSide;
  readonly #outliers: Outliers;
  #kernel: KernelSide | undefined;
  readonly #servers: Server[] = [];
  #state: "INITIALIZING" | "LIVE" | "DRAINING" = "INITIALIZING";
  #admin: { close(): Promise<void> } | undefined;
  #quit: () => void = () => {};

  constructor(config: Config, log: Log, options: RunOptions, startedAt: number) {
    this.#told = config;
    this.#names = new Names({
      changed: () => this.#changed(),
      log: (level, fields, message) => log[level](fields, message),
    });
    this.#addressed = withAddresses(config, this.#names.lookup);
    this.#config = this.#addressed;
    this.#log = log;
    this.#options = options;
    this.#startedAt = startedAt;
    this.#router = new ReferenceRouter(
      this.#config,
      (cluster, endpoint) => this.#slow.active(cluster, endpoint),
      Math.floor(Math.random() * 2 ** 32),
    );
    this.#outliers = new Outliers({
      now: () => performance.now(),
      changed: () => this.#changed(),
      count: (cluster, what) => this.#counters.count(this.#counters.clusters, cluster, `outlier_detection.${what}`),
      log: (fields, message) => log.info(fields, message),
    });
    this.#slow = new SlowSide(this.#router, this.#counters, this.#outliers, log);
  }

  async run(): Promise<number> {
    const ended = new Promise<void>((resolve) => {
      this.#quit = resolve;
    });
    for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => this.#quit());
    this.#admin = await serveAdmin(this.#options.adminSocket, {
      state: () => this.#state,
      stats: () =>
        collectStats({
          config: this.#config,
          startedAt: this.#startedAt,
          slow: this.#counters,
          openSlow: () => this.#slow.open,
          outliers: this.#outliers,
          ...(this.#kernel ? { kernel: { ...this.#kernel, ids: this.#kernel.tables.ids } } : {}),
        }),
      config: () => this.#config,
      maps: () => (this.#kernel ? dumpMaps(this.#kernel.datapath, this.#kernel.tables) : []),
      tenant: (cgroup) => this.#tenant(cgroup),
      quit: () => this.#quit(),
    });
    await Promise.race([this.#names.start(this.#told.clusters), later(FIRST_ANSWERS_MS)]);
    const opened = this.#openKernel(shim);
    if (opened) await this.#startKernel(shim, opened);
    else await this.#startUserspace();
    this.#state = "LIVE";
    this.#log.info(
      { datapath: opened ? "kernel" : "userspace", listeners: this.#config.listeners.length },
      `all listeners are ready after ${Math.round(performance.now() - this.#startedAt)} ms`,
    );
    await ended;
    this.#state = "DRAINING";
    this.#log.info("draining");
    await this.stop(DRAIN_MS);
    this.#log.info("ended");
    return OK;
  }

  /** The kernel path, when it is to be taken. Throws when it was asked for and does not work. */
  #openKernel(native: Native): Opened | undefined {
    if (this.#options.datapath === "userspace") return undefined;
    const missing = native.unavailable()?.message;
    const opened = missing === undefined ? this.#tryKernel(native) : { why: missing };
    if ("datapath" in opened) return opened;
    const { why } = opened;
    if (this.#options.datapath === "kernel") throw new Error(`the kernel path does not work here: ${why}`);
    this.#log.warn({ why }, "no kernel path here: the slow path serves everything (see `xlb doctor`)");
    return undefined;
  }

  #tryKernel(native: Native): Opened | { readonly why: string } {
    const fds: number[] = [];
    const listen = (ip: string) => {
      const { fd, port } = native.listen(ip, 0, 65_535);
      fds.push(fd);
      return addrKey({ ip, port });
    };
    const opened = openKernelPath(native, () => {
      const anchor4 = listen("127.0.0.1");
      let anchor6: AddrKey | undefined;
      try {
        anchor6 = listen("::1");
      } catch {
        this.#log.debug("no IPv6 here");
      }
      return new Datapath(native, { anchor4, ...(anchor6 ? { anchor6 } : {}), receiveLimit: RECEIVE_LIMIT });
    });
    if ("datapath" in opened) return { ...opened, fds };
    for (const fd of fds) native.close(fd);
    return opened;
  }

  async #startKernel(native: Native, { datapath, fds }: Opened): Promise<void> {
    const tables = compile(this.#config, kernelBalancing(this.#config), undefined, entranceOf);
    for (const [map, ids] of CAPACITIES) {
      const most = datapath.capacity(map);
      if (tables.ids[ids].size < most) continue;
      datapath.close();
      const many = `${tables.ids[ids].size} ${ids} are more than the kernel path holds (${most - 1})`;
      throw new Error(`${many}: take fewer, or --datapath userspace`);
    }
    const slow = [...tables.slow, ...slowClusters(this.#config)];
    for (const { where, reason } of slow.slice(0, MOST_NOTES))
      this.#log.warn({ where, reason }, "rules for the slow path only");
    if (slow.length > MOST_NOTES)
      this.#log.warn({ more: slow.length - MOST_NOTES }, "and more: xlb validate prints all");
    for (const { where, reason } of tables.long.slice(0, MOST_NOTES))
      this.#log.warn({ where, reason }, "rules that take their time");
    const listeners = new Map([...tables.ids.listeners].map(([name, id]) => [id, name]));
    const byName = new Map(this.#config.listeners.map((l) => [l.name, l]));
    const listenerOf = (id: number): Listener | undefined => byName.get(listeners.get(id) ?? "");
    const path = new KernelPath(native, datapath, {
      serve: (anchor, stream, initial) =>
        this.#slow.serveAnchor(anchor, stream, initial, listenerOf(anchor.info.listener)),
      waitsForNobody: (id, port) => this.#startsAtOnce(listenerOf(id), port),
      refuse: (anchor, why, edit) =>
        this.#slow.refuse(path.connections, anchor, why, edit, listenerOf(anchor.info.listener)),
      editAnswer: (rules, program, fields) => {
        const blob = blobOf(this.#kernel?.installed, rules);
        return blob === undefined ? fields : editFields(blob, program, fields);
      },
      answered: (endpoint, status, bytes, ms) =>
        this.#known(endpoint, (cluster, name) => {
          this.#counters.answered(name, status, bytes, ms);
          this.#outliers.outcome(cluster, name, { kind: "answered", status });
        }),
      came: (endpoint, outcome) => this.#known(endpoint, (...one) => this.#outliers.outcome(...one, outcome)),
      grown: (endpoint, streaks) => this.#known(endpoint, (...one) => this.#outliers.grown(...one, streaks)),
      log: (level, fields, message) => this.#log[level](fields, message),
      connectTimeout: (endpoint) => this.#endpoints.get(endpoint)?.cluster.connectTimeoutMs ?? 5_000,
    });
    const dates = new Dates(datapath);
    this.#kernel = { datapath, path, dates, tables, installed: undefined };
    path.start(fds);
    if (answersItself(this.#config)) dates.start();
    this.#aim(this.#kernel);
    const tenants = path.enrol(this.#options.cgroups, this.#options.userspaceCgroups, holdRoot());
    await path.warm([...tenants, ...path.tenantPaths().map((t) => t.id)], 1_500);
    /* The switch: before this, connections to listeners are left alone. */
    this.#install(this.#kernel);
  }

  /** Pools and the slow path go by the numbers of these tables. */
  #aim({ datapath, path, tables }: KernelSide): void {
    this.#slow.joinKernel(datapath, path, tables.ids);
    this.#outliers.follow(this.#addressed.clusters, new KernelTally(datapath, tables.ids));
    for (const { cluster, name } of allEndpoints(this.#config.clusters))
      this.#endpoints.set(tables.ids.endpoints.get(name)!, { cluster, name });
    path.setTargets(
      [...allEndpoints(requestClusters(this.#config))].map(({ cluster, endpoint, name }) => ({
        endpoint: tables.ids.endpoints.get(name)!,
        cluster: cluster.name,
        address: endpoint.address,
        maxConnections: cluster.maxConnections,
        ...(cluster.sockets === undefined ? {} : { sockets: cluster.sockets }),
        ...(cluster.preconnectRatio === undefined ? {} : { preconnectRatio: cluster.preconnectRatio }),
      })),
    );
  }

  /** Does something with a cluster's name and an endpoint's, which the kernel knows by its number. */
  #known(endpoint: number, use: (cluster: string, name: string) => void): void {
    const known = this.#endpoints.get(endpoint);
    if (known) use(known.cluster.name, known.name);
  }

  /** The hooks go by these tables from now on. */
  #install(kernel: KernelSide): void {
    const { ops, installed } = diff(kernel.installed, kernel.tables);
    apply(kernel.datapath, ops);
    kernel.installed = installed;
  }

  /** Names have other addresses, or endpoints were ejected, or let in again. What goes wrong leaves all as it was. */
  #changed(): void {
    try {
      this.#take(withAddresses(this.#told, this.#names.lookup, this.#addressed));
    } catch (error) {
      this.#log.error({ err: error }, "what is new of endpoints could not be taken in");
    }
  }

  #take(addressed: Config): void {
    const before = this.#config;
    const config = withEjections(addressed, (...one) => this.#outliers.isEjected(...one), before);
    const kernel = this.#kernel;
    if (kernel === undefined) {
      this.#addressed = addressed;
      this.#config = config;
      this.#outliers.follow(addressed.clusters);
      this.#router.update(config);
      return;
    }
    const ids = withRetired(kernel.tables.ids, config, kernel.datapath.capacity("endpoint_states"));
    const stands = standing(before, config);
    const tables = withEndpoints(config, kernelBalancing(config), { ...kernel.tables, ids }, stands);
    const most = kernel.datapath.capacity("endpoint_states");
    if (Math.max(0, ...tables.ids.endpoints.values()) >= most) {
      this.#log.warn({ most }, "DNS tells of more endpoints than the kernel path holds: they stay as they were");
      /* Who is ejected of those is another matter. */
      if (addressed !== this.#addressed) this.#take(this.#addressed);
      return;
    }
    this.#addressed = addressed;
    this.#config = config;
    this.#router.update(config);
    kernel.tables = { ...tables, ids: { ...tables.ids, ...(ids.retired ? { retired: ids.retired } : {}) } };
    this.#aim(kernel);
    if (kernel.installed !== undefined) this.#install(kernel);
  }

  /**
   * A server may be the first to speak, or the time to listen may run: with tcp_proxy and inspection, nobody waits for
   * the client's first bytes.
   */
  #startsAtOnce(listener: Listener | undefined, port: number): boolean {
    if (listener === undefined) return false;
    if (inspectedOf(listener, port) !== undefined) return listener.inspection?.timeoutMs !== 0;
    return allChains(listener).some(({ kind }) => kind === "tcp");
  }

  async #tenant(cgroup: string): Promise<void> {
    if (!this.#kernel) return;
    const id = this.#kernel.path.tenant(cgroup);
    await this.#kernel.path.warm([id], 1_000);
  }

  /**
   * Without the kernel the daemon is an ordinary proxy on the listeners' own addresses. A listener on every address of
   * a port leaves none of them to be bound beside it: its socket takes the connections of the others there too.
   */
  async #startUserspace(): Promise<void> {
    this.#outliers.follow(this.#addressed.clusters);
    const all = this.#config.listeners.flatMap((listener) =>
      [listener.address, ...(listener.more ?? [])].map((address) => ({ listener, address })),
    );
    const keyOf = (address: Address) => addrKeyBytes(address).toString("hex");
    const byAddress = new Map(all.map(({ listener, address }) => [keyOf(address), listener]));
    const bound = all.filter(({ address }) => {
      const any = keyOf({ ip: address.ip.includes(":") ? "::" : "0.0.0.0", port: address.port });
      return keyOf(address) === any || !byAddress.has(any);
    });
    for (const { listener, address } of bound) {
      const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket: Socket) => {
        const to = socket.localAddress;
        const own = to === undefined ? undefined : byAddress.get(keyOf({ ip: to, port: address.port }));
        this.#slow.serveSocket(socket, own ?? listener);
      });
      this.#servers.push(server);
      await new Promise<void>((resolve, reject) => {
        server.once("error", (error) =>
          reject(new Error(`listener ${listener.name}: cannot listen on ${address.ip}: ${error.message}`)),
        );
        server.listen({ host: address.ip, port: address.port, ipv6Only: true, backlog: 4_096 }, resolve);
      });
    }
  }

  async stop(graceMs: number): Promise<void> {
    this.#names.stop();
    this.#outliers.stop();
    this.#kernel?.dates.stop();
    for (const server of this.#servers) server.close();
    await Promise.all([this.#kernel?.path.stop(graceMs), this.#slow.drain(graceMs)]);
    await this.#admin?.close();
    if (this.#kernel) leaveRoot();
  }
}
