import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import { readNamed } from "../admin/files.ts";
import { adminSocketPath, DEFAULT_ADMIN_SOCKET } from "../admin/messages.ts";
import { WORKLOAD_DATAPATHS, type WorkloadDatapath } from "../admin/workloads.ts";

/**
 * The program `xlb`. Each command loads what it needs when it is called: `xlb exec` stands before every start of a
 * service and must not wait for a compiler of rules.
 */

declare const XLB_VERSION: string; // from package.json, by tools/build.mjs
const VERSION = typeof XLB_VERSION === "undefined" ? "unbuilt" : XLB_VERSION;

const OK = 0;
const FAILED = 1;
const USAGE = 2;
const EXEC_FAILED = 125; // as env(1): the command's own statuses stay apart

const DOCUMENTED_STATUS = `
Exit status: 0 success, 1 failure, 2 wrong usage. "xlb exec" ends as its command ends, or with 125 (xlb failed),
126 (the command cannot be run) or 127 (no such command).`;

function createProgram(done: (status: number) => void): Command {
  const program = new Command("xlb")
    .description("Balances HTTP requests by Envoy's rules inside the Linux socket layer.")
    .version(VERSION, "-V, --version")
    .addHelpText("after", DOCUMENTED_STATUS)
    .enablePositionalOptions()
    .showHelpAfterError('(try "xlb --help")')
    .exitOverride();

  sources(program.command("run"))
    .description("run the daemon in the foreground, until SIGTERM or SIGINT; it logs to stderr")
    .addOption(
      new Option("--mode <mode>", "serve, or check the configuration and end")
        .choices(["serve", "validate"])
        .default("serve"),
    )
    .addOption(
      new Option("-l, --log-level <level>", "least severe log to print")
        .choices(["trace", "debug", "info", "warning", "warn", "error", "critical", "off"])
        .default("info"),
    )
    .addOption(
      new Option("--datapath <path>", "auto takes the kernel path where xlb doctor finds it works")
        .choices(["auto", "kernel", "userspace"])
        .default("auto"),
    )
    .option("--cgroup <path>", "enrol the processes of this cgroup too, which must exist (repeatable)", collect, [])
    .option("--userspace-cgroup <path>", "the same, for the slow path alone (repeatable)", collect, [])
    .addOption(socketOption())
    .action(async (flags: RunFlags) => {
      if (flags.mode === "validate") return done(await validate(flags));
      const { runDaemon } = await import("../daemon/main.ts");
      done(
        await runDaemon({
          ...flags,
          logLevel: pinoLevel(flags.logLevel),
          cgroups: flags.cgroup,
          userspaceCgroups: flags.userspaceCgroup,
          adminSocket: socketOf(flags),
        }),
      );
    });

  program
    .command("exec")
    .usage("[--] COMMAND [ARGUMENTS...]")
    .description("run a command whose connections to listener addresses are balanced; its exit status is xlb's")
    .argument("<command>", "program to run, looked up in PATH")
    .argument("[arguments...]", "its arguments")
    .addOption(
      new Option(
        "--datapath <path>",
        "userspace: its sockets stay ordinary ones, and the slow path alone balances them",
      )
        .choices(WORKLOAD_DATAPATHS)
        .default("auto"),
    )
    .addOption(socketOption())
    .passThroughOptions()
    .action(async (command: string, args: string[], flags: SocketFlag & { datapath: WorkloadDatapath }) => {
      const { execInWorkload } = await import("./exec.ts");
      try {
        done(await execInWorkload([command, ...args], socketOf(flags), flags.datapath));
      } catch (error) {
        complain((error as Error).message);
        done(EXEC_FAILED);
      }
    });

  sources(program.command("validate"))
    .description("check a configuration; name every problem with its place, and what will need the slow path")
    .action(async (flags: SourceFlags) => done(await validate(flags)));

  sources(program.command("explain"))
    .description("say what would become of a request: virtual host, route, cluster, endpoints, kernel or slow path")
    .argument("<request>", "'[METHOD] http://host/path [VERSION]'")
    .option("--listener <name>", "that it is sent to; not needed where there is one")
    .option("-H, --header <line>", "a header of it, 'name: value' (repeatable)", collect)
    .option("--json", "as JSON")
    .action(async (request: string, flags: ExplainFlags) => done(await explain(request, flags)));

  program
    .command("route-check")
    .description("run tests of Envoy's router_check_tool against a route configuration, and count what they cover")
    .requiredOption("-c, --config-path <file>", "RouteConfiguration or bootstrap, YAML or JSON")
    .requiredOption("-t, --test-path <file>", "tests, YAML or JSON (repeatable)", collect)
    .option("--listener <name>", "whose routes to take of a bootstrap; not needed where there is one")
    .option("-d, --details", "print the name of each test, and what failed")
    .option("--only-show-failures", "print failed tests only, and what failed")
    .option("-f, --fail-under <percent>", "fail if fewer of the routes are covered", percent, 0)
    .option("--covall", "count all that can be asked about a route, and print the routes without a test")
    .option("--detailed-coverage", "print the names of routes without a test")
    .option("--disable-deprecation-check", "no effect: deprecated fields are taken, or refused as not supported")
    .argument("[ignored...]", "ignored, as by router_check_tool")
    .action(async (ignored: string[], flags: RouteCheckFlags) => {
      if (ignored.length > 0) complain(`ignored: ${ignored.join(" ")}`);
      done(await routeCheck(flags));
    });

  sourceFlags(program.command("doctor"))
    .description("say what this machine can do and which datapath auto would take; 0 only if the kernel path works")
    .option("--json", "as JSON")
    .action(async (flags: SourceFlags & { json?: boolean }) => done(await doctor(flags, flags.json === true)));

  program
    .command("stats")
    .description("show the counters of the running daemon")
    .option("--json", "as JSON")
    .addOption(socketOption())
    .action(async (flags: SocketFlag & { json?: boolean }) => {
      const { askStats } = await import("../admin/client.ts");
      const { formatStats } = await import("./stats.ts");
      done(show(await askStats(socketOf(flags)), flags.json ? formatJson : formatStats));
    });

  const dump = program.command("dump").description("show what the daemon was told, or what the kernel's maps hold");
  dump
    .command("config")
    .description("the configuration in force")
    .option("--json", "as JSON")
    .addOption(socketOption())
    .action(async (flags: SocketFlag & { json?: boolean }) => {
      const { askConfig } = await import("../admin/client.ts");
      const { formatConfig } = await import("./dump.ts");
      done(show(await askConfig(socketOf(flags)), flags.json ? formatJson : formatConfig));
    });
  dump
    .command("maps")
    .description("every entry of the kernel's maps, decoded")
    .option("--json", "as JSON")
    .addOption(socketOption())
    .action(async (flags: SocketFlag & { json?: boolean }) => {
      const { askMaps } = await import("../admin/client.ts");
      const { formatMaps } = await import("./dump.ts");
      done(show(await askMaps(socketOf(flags)), flags.json ? formatJson : formatMaps));
    });

  program
    .command("cleanup")
    .description("remove every pin, link and cgroup that dead runs left; kills nothing")
    .addOption(socketOption())
    .action(async (flags: SocketFlag) => {
      const { cleanUp } = await import("./cleanup.ts");
      const cleaning = await cleanUp(socketOf(flags));
      for (const line of cleaning.done) print(`${line}\n`);
      for (const line of cleaning.left) complain(line);
      if (cleaning.done.length === 0 && cleaning.left.length === 0) print("nothing to remove\n");
      done(cleaning.left.length === 0 ? OK : FAILED);
    });

  return program;
}

interface SocketFlag {
  readonly adminSocket?: string;
}

interface SourceFlags {
  readonly configPath?: string;
  readonly configYaml?: string;
}

interface ExplainFlags extends SourceFlags {
  readonly listener?: string;
  readonly header?: readonly string[];
  readonly json?: boolean;
}

interface RouteCheckFlags {
  readonly configPath: string;
  readonly testPath: readonly string[];
  readonly listener?: string;
  readonly details?: boolean;
  readonly onlyShowFailures?: boolean;
  readonly failUnder: number;
  readonly covall?: boolean;
  readonly detailedCoverage?: boolean;
}

interface RunFlags extends SourceFlags, SocketFlag {
  readonly mode: "serve" | "validate";
  readonly logLevel: string;
  readonly datapath: "auto" | "kernel" | "userspace";
  readonly cgroup: readonly string[];
  readonly userspaceCgroup: readonly string[];
}

/** The flags by which Envoy is told its bootstrap. */
const sourceFlags = (command: Command): Command =>
  command
    .option("-c, --config-path <file>", "Envoy bootstrap, YAML or JSON")
    .option("--config-yaml <yaml>", "Envoy bootstrap as text; merged over the file where both are given");

/** The same, where there must be one. */
function sources(command: Command): Command {
  return sourceFlags(command).hook("preAction", (_, acting) => {
    if (!isGiven(acting.opts<SourceFlags>()))
      acting.error("error: give a bootstrap with -c/--config-path or --config-yaml", { exitCode: USAGE });
  });
}

const isGiven = ({ configPath, configYaml }: SourceFlags) => configPath !== undefined || configYaml !== undefined;

function socketOption(): Option {
  const where = `where the daemon answers (default: $XLB_ADMIN_SOCKET or ${DEFAULT_ADMIN_SOCKET})`;
  return new Option("--admin-socket <path>", where).argParser((path) => {
    if (!path.startsWith("/")) throw new InvalidArgumentError("It must be an absolute path.");
    return path;
  });
}

const socketOf = (flags: SocketFlag) => adminSocketPath(flags.adminSocket);
const collect = (value: string, before: readonly string[] = []) => [...before, value];

function percent(text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !(value >= 0 && value <= 100)) throw new InvalidArgumentError("It must be from 0 to 100.");
  return value;
}

/** Envoy's words for pino's. */
function pinoLevel(level: string): string {
  return { warning: "warn", critical: "fatal", off: "silent" }[level] ?? level;
}

/** Problems to stdout, as a compiler lists them: `file:line:column: path: message`. */
async function validate(flags: SourceFlags): Promise<number> {
  const { name, parsed } = await readSource(flags);
  if (!parsed.ok) {
    for (const line of parsed.problems) print(`${line}\n`);
    return FAILED;
  }
  print(`${name}: valid\n`);
  for (const line of await notesOn(parsed)) print(`${name}: note: ${line}\n`);
  return OK;
}

type ValidSource = Extract<Awaited<ReturnType<typeof readSource>>["parsed"], { ok: true }>;

/** What a valid configuration leaves to the slow path, and what of it has no effect. */
async function notesOn({ config, idle }: ValidSource): Promise<string[]> {
  const { explainConfig } = await import("../daemon/explain.ts");
  return [...explainConfig(config), ...idle];
}

/** With a configuration also what it will need the slow path for. */
async function doctor(flags: SourceFlags, json: boolean): Promise<number> {
  const { runDoctor } = await import("../daemon/doctor.ts");
  if (!isGiven(flags)) return await runDoctor({ json, notes: [] });
  const { name, parsed } = await readSource(flags);
  if (!parsed.ok) return complainOf(parsed.problems);
  const notes = (await notesOn(parsed)).map((line) => `${name}: ${line}`);
  return await runDoctor({ json, notes: notes.length > 0 ? notes : [`${name}: all of it on the kernel path`] });
}

async function readSource({ configPath, configYaml }: SourceFlags) {
  const { formatRejections, parseBootstrap } = await import("../envoy/parse.ts");
  const name = configPath ?? "--config-yaml";
  const text = configPath === undefined ? (configYaml ?? "") : readNamed(configPath).toString();
  const parsed = parseBootstrap(text, name, configPath === undefined ? undefined : configYaml);
  return {
    name,
    parsed: parsed.ok
      ? { ok: true as const, config: parsed.value.config, idle: parsed.idle ?? [] }
      : { ok: false as const, problems: formatRejections(parsed.rejections, name) },
  };
}

async function explain(request: string, flags: ExplainFlags): Promise<number> {
  const { explainRequest, formatExplanation, readQuestion } = await import("../daemon/explain-request.ts");
  const asked = readQuestion(request, flags.header ?? []);
  if ("problem" in asked) {
    complain(asked.problem);
    return USAGE;
  }
  const { parsed } = await readSource(flags);
  if (!parsed.ok) return complainOf(parsed.problems);
  const { findListener } = await import("../daemon/listener.ts");
  const listener = findListener(parsed.config, flags.listener);
  if ("problem" in listener) return complainOf([`xlb: ${listener.problem}`]);
  const explanation = explainRequest(parsed.config, listener, asked);
  print(flags.json ? formatJson(explanation) : formatExplanation(explanation));
  return OK;
}

async function routeCheck(flags: RouteCheckFlags): Promise<number> {
  const { formatRejections } = await import("../envoy/parse.ts");
  const { parseRouteTests } = await import("../envoy/route-tests.ts");
  const routes = await readRoutes(flags.configPath, flags.listener);
  const files = flags.testPath.map((path) => ({ path, parsed: parseRouteTests(readNamed(path), path) }));
  const broken = files.flatMap(({ path, parsed }) => (parsed.ok ? [] : formatRejections(parsed.rejections, path)));
  const problems = ["problems" in routes ? routes.problems : [], broken].flat();
  if ("problems" in routes || problems.length > 0) return complainOf(problems);
  const { checkRoutes, reportChecks } = await import("../route/check.ts");
  const tests = files.flatMap(({ parsed }) => (parsed.ok ? parsed.value : []));
  const { results, coverage } = checkRoutes(routes, tests);
  const report = reportChecks(results, coverage, {
    details: flags.details === true,
    onlyShowFailures: flags.onlyShowFailures === true,
    failUnder: flags.failUnder,
    covall: flags.covall === true,
    detailedCoverage: flags.detailedCoverage === true,
  });
  for (const { text, failed } of report.lines) (failed ? process.stderr : process.stdout).write(`${text}\n`);
  return report.passed ? OK : FAILED;
}

/** Of a route configuration by itself, or of a listener in a bootstrap. */
async function readRoutes(path: string, listener: string | undefined) {
  const { formatRejections, isBootstrap, parseBootstrap, parseRouteConfig } = await import("../envoy/parse.ts");
  const { findListener } = await import("../daemon/listener.ts");
  const text = readNamed(path);
  if (!isBootstrap(text)) {
    if (listener !== undefined) return { problems: [`xlb: ${path} has no listeners: leave --listener out`] };
    const parsed = parseRouteConfig(text, path);
    return parsed.ok ? parsed.value : { problems: formatRejections(parsed.rejections, path) };
  }
  const parsed = parseBootstrap(text, path);
  if (!parsed.ok) return { problems: formatRejections(parsed.rejections, path) };
  const found = findListener(parsed.value.config, listener);
  if ("problem" in found) return { problems: [`xlb: ${path}: ${found.problem}`] };
  const { httpChains } = await import("../model/chains.ts");
  const [chain, second] = httpChains(found);
  if (chain === undefined) return { problems: [`xlb: ${path}: listener ${found.name} has no HTTP filter chain`] };
  if (second === undefined) return chain.routes;
  return {
    problems: [`xlb: ${path}: listener ${found.name} has several HTTP filter chains: check their routes apart`],
  };
}

function complainOf(lines: readonly string[]): number {
  for (const line of lines) process.stderr.write(`${line}\n`);
  return FAILED;
}

function show<T>(
  answer: { ok: true; value: T } | { ok: false; message: string },
  format: (value: T) => string,
): number {
  if (answer.ok) print(format(answer.value));
  else complain(answer.message);
  return answer.ok ? OK : FAILED;
}

const formatJson = (value: unknown) => `${JSON.stringify(value, null, 2)}\n`;
const print = (text: string) => void process.stdout.write(text);
const complain = (line: string) => void process.stderr.write(`xlb: ${line}\n`);

async function main(): Promise<number> {
  let status = OK;
  const program = createProgram((result) => {
    status = result;
  });
  try {
    await program.parseAsync();
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    return error.exitCode === OK ? OK : USAGE;
  }
  return status;
}

// A reader that has seen enough (`xlb dump maps | head`) is no failure of ours.
process.stdout.on("error", (error: NodeJS.ErrnoException) => process.exit(error.code === "EPIPE" ? OK : FAILED));

main().then(
  (status) => {
    process.exitCode = status;
  },
  (error: Error) => {
    complain(process.env.XLB_DEBUG ? (error.stack ?? error.message) : error.message);
    process.exitCode = FAILED;
  },
);
