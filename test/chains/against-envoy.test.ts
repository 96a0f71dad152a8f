import assert from "node:assert/strict";
import { connect } from "node:net";
import { after, before, describe, test } from "node:test";
import { parseBootstrap } from "../../src/envoy/parse.ts";
import type { Listener } from "../../src/model/config.ts";
import { chooseChain, plainConnection } from "../../src/route/chain.ts";
import { readClientHello } from "../../src/slowpath/client-hello.ts";
import { Dice } from "../dice.ts";
import { address, cluster, NamedServer, TcpBed, tcpProxy, tlsInspector, without } from "../e2e/tcp.ts";
import { anyHello } from "./hellos.ts";

const hex = (bytes: Buffer) => bytes.toString("hex").slice(0, 700);

/** What tls_inspector makes of ClientHellos, and which chain that leads to: the reference against a real Envoy. */

const HELLOS = Number(process.env.HELLOS ?? 3_000);
const AT_ONCE = 32;
/** So long nothing happens where a hello is not whole. Milliseconds. */
const SILENCE = 300;
const MOST_TOLD = 60;
const IP = `127.0.92.${(process.pid % 200) + 1}`;

const TRANSPORTS = ["tls", "raw_buffer"];
const NAMES = [undefined, "a.test", "*.test", "*.b.test"];
const PROTOCOLS = [undefined, "h2", "http/1.1", "foo"];
const chains = TRANSPORTS.flatMap((transport) =>
  NAMES.flatMap((name) =>
    PROTOCOLS.map((protocol) => ({
      name: `${transport} ${name ?? "any"} ${protocol ?? "any"}`,
      match: {
        transport_protocol: transport,
        ...(name === undefined ? {} : { server_names: [name] }),
        ...(protocol === undefined ? {} : { application_protocols: [protocol] }),
      },
    })),
  ),
);

describe("hellos as Envoy hears them", { skip: without("envoy"), timeout: 170_000 }, () => {
  const servers = chains.map(({ name }) => new NamedServer(name, IP, { first: true }));
  let bed: TcpBed;
  let listener: Listener;
  before(async () => {
    for (const server of servers) await server.listen();
    const listeners = [
      {
        name: "l",
        address: address(IP, 443),
        listener_filters: [tlsInspector()],
        listener_filters_timeout: "0s",
        filter_chains: chains.map(({ name, match }) => ({
          name,
          filter_chain_match: match,
          filters: [tcpProxy(name)],
        })),
      },
    ];
    const clusters = servers.map((server) => cluster(server.name, [server]));
    const parsed = parseBootstrap(JSON.stringify({ static_resources: { listeners, clusters } }));
    assert.ok(parsed.ok, JSON.stringify(parsed));
    listener = parsed.value.config.listeners[0]!;
    bed = await TcpBed.open("envoy", listeners, clusters);
  });
  after(async () => {
    await bed?.close();
    for (const server of servers) await server.close();
  });

  function expected(bytes: Buffer): string {
    const heard = readClientHello(bytes);
    if (heard.kind === "more" || heard.kind === "over") return heard.kind;
    const { kind, protocols } = heard;
    return (
      chooseChain(listener, {
        ...plainConnection({ ip: IP, port: 443 }, { ip: IP, port: 1_024 }),
        transportProtocol: kind === "tls" ? "tls" : "raw_buffer",
        serverName: kind === "tls" ? heard.serverName : "",
        applicationProtocols: protocols,
      })?.label ?? "over"
    );
  }

  /** What greets, `over` or `more`. In two pieces, a hello is heard like one in one. */
  function asked(bytes: Buffer, cut: number, patienceMs: number): Promise<string> {
    return new Promise((resolve) => {
      const socket = connect({ host: IP, port: 443, noDelay: true });
      const done = (what: string) => {
        clearTimeout(timer);
        socket.destroy();
        resolve(what);
      };
      const timer = setTimeout(() => done("more"), patienceMs);
      socket.on("error", () => done("over"));
      socket.on("end", () => done("over"));
      /* What it sends back may come with its greeting. */
      socket.on("data", (said) => done(chains.find(({ name }) => said.toString().startsWith(name))?.name ?? "?"));
      socket.write(bytes.subarray(0, cut));
      setTimeout(() => socket.write(bytes.subarray(cut)), 5);
    });
  }

  test(`${HELLOS} hellos, most of them with something wrong`, async () => {
    const seed = Number(process.env.SEED ?? 1);
    const unlike: string[] = [];
    const seen = new Map<string, number>();
    let next = 0;
    const worker = async () => {
      while (next < HELLOS) {
        const n = next++;
        const dice = new Dice(seed, n);
        const bytes = anyHello(dice);
        const want = expected(bytes);
        const got = await asked(bytes, dice.between(1, bytes.length), want === "more" ? SILENCE : 10_000);
        seen.set(want, (seen.get(want) ?? 0) + 1);
        if (got !== want) unlike.push(`${seed}/${n}: Envoy ${got}, reference ${want}: ${hex(bytes)}`);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
    assert.equal(unlike.slice(0, MOST_TOLD).join("\n"), "", `${unlike.length} differ`);
    const ofTls = [...seen].reduce((sum, [what, count]) => (what.startsWith("tls") ? sum + count : sum), 0);
    assert.ok(seen.size > 15 && ofTls > HELLOS / 4, [...seen].join(" "));
  });
});
