import { createInterface } from "node:readline";
import { inCgroup, makeCgroup, removeCgroup, start, stop } from "../test/e2e/harness.ts";
import { address, cluster, type Server, TcpBed, tcpProxy, without } from "../test/e2e/tcp.ts";

/**
 * Connections by tcp_proxy: made to the endpoint by the connect hook, relayed by the slow path, by Envoy, and without
 * anybody between. Medians over interleaved rounds, as JSON lines. `npx tsx bench/tcp.ts [ROUNDS]`, as root.
 */

const ROUNDS = Number(process.argv[2] ?? 5);
const PROGRAM = `${import.meta.dirname}/tcp.py`;
const [SERVER_IP, XLB_IP, ENVOY_IP] = ["127.0.96.1", "127.0.96.2", "127.0.96.3"];

interface Numbers {
  readonly round_us: number;
  readonly connection_us: number;
  readonly mb_s: number;
}

const server = start(["python3", PROGRAM, "serve", SERVER_IP]);
const port = await new Promise<number>((resolve) => {
  createInterface({ input: server.stdout! }).once("line", (line) => resolve(Number(line)));
});

const listeners = (ip: string) => [
  { name: "direct", address: address(ip, 91), filter_chains: [{ filters: [tcpProxy("c")] }] },
  {
    name: "relayed",
    address: address(ip, 92),
    filter_chains: [{ filters: [tcpProxy("c", { max_connect_attempts: 2 })] }],
  },
];
const open = (kind: Server, ip: string) => TcpBed.open(kind, listeners(ip), [cluster("c", [{ ip: SERVER_IP, port }])]);
const xlb = await open("kernel", XLB_IP);
const envoy = without("envoy") === false ? await open("envoy", ENVOY_IP) : undefined;
const bystander = makeCgroup("bench-tcp");

const ways: readonly (readonly [name: string, ip: string, port: number, cgroup: string | undefined])[] = [
  ["nobody between", SERVER_IP, port, bystander],
  ["xlb, connect hook", XLB_IP, 91, xlb.cgroup],
  ["xlb, slow path", XLB_IP, 92, xlb.cgroup],
  ...(envoy ? ([["envoy", ENVOY_IP, 91, bystander]] as const) : []),
];

async function ask(ip: string, to: number, cgroup: string | undefined): Promise<Numbers> {
  const client = start(inCgroup(cgroup, ["python3", PROGRAM, "ask", ip, String(to), "5000", "500", "256"]));
  let text = "";
  client.stdout!.on("data", (data) => {
    text += data;
  });
  await new Promise((resolve) => client.once("close", resolve));
  return JSON.parse(text) as Numbers;
}

const median = (numbers: readonly number[]) => numbers.toSorted((a, b) => a - b)[numbers.length >> 1]!;

const seen = new Map<string, Numbers[]>(ways.map(([name]) => [name, []]));
for (let round = 0; round < ROUNDS; round++)
  for (const [name, ip, to, cgroup] of ways) seen.get(name)!.push(await ask(ip, to, cgroup));
for (const [name, all] of seen) {
  const of = (key: keyof Numbers) => Number(median(all.map((one) => one[key])).toPrecision(3));
  console.log(
    JSON.stringify({
      experiment: "tcp",
      way: name,
      round_us: of("round_us"),
      connection_us: of("connection_us"),
      mb_s: of("mb_s"),
    }),
  );
}
await xlb.close();
await envoy?.close();
await stop(server, "SIGKILL");
removeCgroup(bystander);
process.exit(0);
