import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { createServer, type Server as TlsServer } from "node:tls";
import {
  address,
  cluster,
  httpAnswer,
  inspector,
  NamedServer,
  type Server,
  TcpBed,
  tcpProxy,
  tlsInspector,
  without,
} from "../e2e/tcp.ts";

/** TLS as a listener with tls_inspector parts it: the same clients and servers, with XLB or Envoy between. */

const IP = `127.0.90.${(process.pid % 200) + 1}`;
const OTHER = IP.replace("127.0.90", "127.0.89");
const CLIENT = join(import.meta.dirname, "tls-client.mjs");
const SERVERS: readonly Server[] = ["kernel", "userspace", "envoy"];

interface Told {
  readonly text: string;
  readonly protocol: string;
  readonly end: string;
}

/** Answers what it is told with its name and a colon before it, encrypted. */
class SecretServer {
  readonly name: string;
  readonly ip = OTHER;
  port = 0;
  readonly #server: TlsServer;

  constructor(name: string, key: Buffer, cert: Buffer) {
    this.name = name;
    this.#server = createServer({ key, cert, ALPNProtocols: ["h2", "http/1.1", "x"] }, (socket) => {
      socket.on("error", () => {});
      socket.on("data", (data) => socket.write(`${name}:${data.toString("latin1")}`));
    });
  }

  async listen(): Promise<this> {
    await new Promise<void>((resolve) => this.#server.listen(0, OTHER, resolve));
    this.port = (this.#server.address() as AddressInfo).port;
    return this;
  }

  close(): void {
    this.#server.close();
  }
}

const REQUEST = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

for (const server of SERVERS) {
  describe(`TLS chains, ${server}`, { skip: without(server), timeout: 60_000 }, () => {
    const folder = mkdtempSync(join(tmpdir(), "xlb-tls-"));
    const secret: SecretServer[] = [];
    const plain = new NamedServer("p", OTHER);
    let bed: TcpBed;

    before(async () => {
      const files = ["-keyout", join(folder, "key"), "-out", join(folder, "cert"), "-subj", "/CN=test"];
      const kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
      execFileSync("openssl", ["req", ...kind, ...files], { stdio: "ignore" });
      const [key, cert] = [readFileSync(join(folder, "key")), readFileSync(join(folder, "cert"))];
      for (const name of ["a", "b", "c", "d"]) secret.push(await new SecretServer(name, key, cert).listen());
      await plain.listen();
      const chain = (match: object, to: object) => ({ filter_chain_match: match, filters: [to] });
      const names = (...server_names: string[]) => ({ transport_protocol: "tls", server_names });
      const listener = (port: number, more: object) => ({ name: `t${port}`, address: address(IP, port), ...more });
      const parted = [
        chain(names("a.test", "A2.test"), tcpProxy("a")),
        chain(names("*.test"), tcpProxy("b")),
        chain({ ...names("*.long.test"), application_protocols: ["x"] }, tcpProxy("d")),
        chain(names("*.long.test"), tcpProxy("c")),
        chain({ transport_protocol: "raw_buffer", application_protocols: ["http/1.1", "h2c"] }, httpAnswer("http")),
      ];
      bed = await TcpBed.open(
        server,
        [
          listener(443, {
            listener_filters: [tlsInspector({ initial_read_buffer_size: 512 }), inspector],
            listener_filters_timeout: "0.5s",
            continue_on_listener_filters_timeout: true,
            filter_chains: parted,
            default_filter_chain: { filters: [tcpProxy("p")] },
          }),
          listener(444, {
            listener_filters: [tlsInspector()],
            listener_filters_timeout: "0.3s",
            filter_chains: [chain({ transport_protocol: "tls" }, tcpProxy("a")), chain({}, tcpProxy("p"))],
          }),
          /* Nobody looks: all is raw_buffer. */
          listener(445, {
            filter_chains: [chain({ transport_protocol: "tls" }, tcpProxy("a")), chain({}, tcpProxy("b"))],
          }),
          listener(446, {
            listener_filters: [
              { ...tlsInspector(), filter_disabled: { destination_port_range: { start: 446, end: 447 } } },
            ],
            filter_chains: [chain({ transport_protocol: "tls" }, tcpProxy("a")), chain({}, tcpProxy("b"))],
          }),
          listener(447, {
            listener_filters: [
              {
                ...tlsInspector(),
                filter_disabled: {
                  or_match: {
                    rules: [
                      { destination_port_range: { start: 1, end: 447 } },
                      { not_match: { any_match: true } },
                      {
                        and_match: { rules: [{ any_match: true }, { destination_port_range: { start: 448, end: 9 } }] },
                      },
                    ],
                  },
                },
              },
            ],
            filter_chains: [chain({ transport_protocol: "tls" }, tcpProxy("a")), chain({}, tcpProxy("b"))],
          }),
          listener(448, {
            listener_filters: [tlsInspector({ close_connection_on_client_hello_parsing_errors: true })],
            filter_chains: [chain({ transport_protocol: "tls" }, tcpProxy("a")), chain({}, tcpProxy("p"))],
          }),
          listener(449, {
            listener_filters: [tlsInspector({ max_client_hello_size: 256 })],
            filter_chains: [chain({ transport_protocol: "tls" }, tcpProxy("a")), chain({}, tcpProxy("p"))],
          }),
        ],
        [...secret.map((one) => cluster(one.name, [one])), cluster("p", [plain])],
      );
    });
    after(async () => {
      await bed?.close();
      for (const one of secret) one.close();
      await plain.close();
      rmSync(folder, { recursive: true });
    });

    async function secretly(...connections: readonly object[]): Promise<Told[]> {
      const asked = JSON.stringify(connections.map((one) => ({ ip: IP, port: 443, say: "x", ...one })));
      return JSON.parse(await bed.run([process.execPath, CLIENT, asked])) as Told[];
    }

    test("the name decides: itself, then the longest ending; then the protocols", async () => {
      const asked: readonly (readonly [object, string])[] = [
        [{ name: "a.test" }, "a:x"],
        [{ name: "a2.TEST", version: "TLSv1.2" }, "a:x"],
        [{ name: "b.test" }, "b:x"],
        [{ name: "x.y.test" }, "b:x"],
        [{ name: "x.long.test" }, "c:x"],
        [{ name: "x.long.test", alpn: ["h2", "http/1.1"] }, "c:x"],
        [{ name: "y.x.long.test", alpn: ["h2", "x"] }, "d:x"],
      ];
      const told = await secretly(...asked.map(([one]) => one));
      assert.deepEqual(
        told.map(({ text }) => text),
        asked.map(([, answer]) => answer),
      );
      assert.deepEqual(
        told.slice(0, 2).map(({ protocol }) => protocol),
        ["TLSv1.3", "TLSv1.2"],
      );
    });

    test("openssl's client, its bytes untouched", async () => {
      const flags = ["s_client", "-quiet", "-connect", `${IP}:443`, "-servername", "z.long.test", "-alpn", "x"];
      const shell = `(echo hello; sleep 1) | timeout 3 openssl ${flags.join(" ")} 2>/dev/null`;
      assert.equal(await bed.run(["sh", "-c", shell]), "d:hello\n");
    });

    test("plain HTTP has its chain beside it, other bytes and silence the rest", async () => {
      const [http, other, silent] = await bed.talk(
        { ip: IP, port: 443, say: REQUEST, until: 100 },
        { ip: IP, port: 443, say: "\u0001binary", until: 9 },
        { ip: IP, port: 443, say: "", until: 1, ms: 1_200 },
      );
      assert.match(http!.text, /^HTTP\/1\.1 200 OK\r\n/);
      assert.equal(other!.text, "p:\u0001binary");
      assert.deepEqual([silent!.text, silent!.end], ["", "timeout"]);
    });

    test("TLS without a name, of no chain, has the rest too: a hello is passed on as it came", async () => {
      const [told] = await secretly({});
      /* It is answered by a server that speaks no TLS, with the hello behind its name. */
      assert.match(told!.end, /WRONG_VERSION|ECONNRESET|EPROTO/);
      assert.equal(plain.accepted > 0, true);
    });

    test("tls_inspector alone: TLS to one, others to the other, silence is closed", async () => {
      assert.equal((await secretly({ port: 444, name: "any" }))[0]!.text, "a:x");
      const [other, part, silent] = await bed.talk(
        { ip: IP, port: 444, say: REQUEST, until: 20 },
        { ip: IP, port: 444, say: "\u0016\u0003\u0001", until: 1, ms: 1_200 },
        { ip: IP, port: 444, until: 1, ms: 1_200 },
      );
      assert.equal(other!.text, `p:${REQUEST}`);
      for (const told of [part, silent]) {
        assert.match(told!.end, /^(eof|ECONNRESET)$/);
        assert.equal(told!.text, "");
      }
    });

    test("where nobody looks, or not at that port, TLS is raw_buffer", async () => {
      const told = await secretly({ port: 445 }, { port: 446 }, { port: 447 });
      assert.deepEqual(
        told.map(({ text }) => text),
        ["b:x", "b:x", "a:x"],
      );
    });

    test("who asks for it has all but TLS closed, and hellos that are too long", async () => {
      assert.equal((await secretly({ port: 448 }))[0]!.text, "a:x");
      const [told] = await bed.talk({ ip: IP, port: 448, say: REQUEST, ms: 2_000 });
      assert.deepEqual([told!.text, /^(eof|ECONNRESET)$/.test(told!.end)], ["", true], told!.end);
      const [long] = await secretly({ port: 449, name: `${"a".repeat(60)}.test` });
      assert.match(long!.end, /^(eof|ECONNRESET)$/);
    });
  });
}
