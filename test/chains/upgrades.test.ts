import assert from "node:assert/strict";
import { type AddressInfo, createServer, type Server as NetServer } from "node:net";
import { after, before, describe, test } from "node:test";
import { address, cluster, httpAnswer, type Server, TcpBed, without } from "../e2e/tcp.ts";

/** Who may change the protocol: what a route says goes before what its connection manager says. */

const IP = `127.0.88.${(process.pid % 200) + 1}`;
const SERVERS: readonly Server[] = ["kernel", "userspace", "envoy"];

for (const server of SERVERS) {
  describe(`upgrades by route, ${server}`, { skip: without(server), timeout: 60_000 }, () => {
    let bed: TcpBed;
    let backend: NetServer;
    before(async () => {
      backend = createServer((socket) => {
        socket.on("error", () => {});
        socket.once("data", (data) => {
          const protocol = /^upgrade: *(\S+)/im.exec(data.toString("latin1"))?.[1];
          socket.write(`HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: ${protocol}\r\n\r\n`);
        });
      });
      await new Promise<void>((resolve) => backend.listen(0, IP, resolve));
      const { port } = backend.address() as AddressInfo;
      const manager = httpAnswer("");
      const config = (upgrade_type: string, enabled?: boolean) => ({ upgrade_type, enabled });
      const route = (prefix: string, ...upgrade_configs: object[]) => ({
        match: { prefix },
        route: { cluster: "c", upgrade_configs },
      });
      Object.assign(manager.typed_config, {
        upgrade_configs: [config("websocket"), config("Quiet", false), config("loud", true)],
      });
      manager.typed_config.route_config.virtual_hosts[0]!.routes = [
        route("/allow", config("QUIET"), config("other", true), config("constructor")),
        route("/deny", config("WebSocket", false), config("loud", false)),
        route("/none"),
        { match: { prefix: "/" }, direct_response: { status: 204 } },
      ] as never;
      const listener = { name: "l", address: address(IP, 80), filter_chains: [{ filters: [manager] }] };
      bed = await TcpBed.open(server, [listener], [cluster("c", [{ ip: IP, port }])]);
    });
    after(async () => {
      await bed?.close();
      backend.close();
    });

    const CASES: readonly (readonly [path: string, protocol: string, status: number])[] = [
      ["/none", "websocket", 101],
      ["/none", "WEBSOCKET", 101],
      ["/none", "quiet", 403],
      ["/none", "loud", 101],
      ["/none", "other", 403],
      ["/none", "constructor", 403],
      ["/allow", "websocket", 101],
      ["/allow", "quiet", 101],
      ["/allow", "other", 101],
      ["/allow", "constructor", 101],
      ["/allow", "toString", 403],
      ["/deny", "websocket", 403],
      ["/deny", "loud", 403],
      ["/deny", "quiet", 403],
      ["/", "websocket", 204],
      ["/", "quiet", 403],
    ];

    test("each protocol on each route", async () => {
      const told = await bed.talk(
        ...CASES.map(([path, protocol]) => ({
          ip: IP,
          port: 80,
          say: `GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: ${protocol}\r\n\r\n`,
          until: 20,
        })),
      );
      const seen = told.map(({ text }, i) => [...CASES[i]!.slice(0, 2), Number(/^HTTP\/1\.1 (\d+)/.exec(text)?.[1])]);
      assert.deepEqual(seen, CASES);
    });
  });
}
