import { stripVTControlCharacters } from "node:util";
import pc from "picocolors";
import type { EndpointStats, Stats } from "../../src/admin/messages.ts";
import { HOPS, INSTANCES, WEIGHTS } from "./town.ts";

/** What the demo prints. */

/** One line that is overwritten while things go on; plain lines where there is no terminal. */
export class Progress {
  readonly #live = process.stderr.isTTY === true;
  #last = "";

  say(text: string): void {
    if (text === this.#last) return;
    this.#last = text;
    process.stderr.write(this.#live ? `\r\x1b[2K${pc.cyan("●")} ${text}` : `${text}\n`);
  }

  clear(): void {
    if (this.#live) process.stderr.write("\r\x1b[2K");
  }
}

export function title(text: string): string {
  return `\n${pc.bold(text)}\n${pc.dim("─".repeat(text.length))}`;
}

type Cell = string | number;

function table(heads: readonly string[], rows: readonly (readonly Cell[])[]): string {
  const width = (text: string) => stripVTControlCharacters(text).length;
  const texts = rows.map((row) => row.map((cell) => (typeof cell === "number" ? number(cell) : cell)));
  const widths = heads.map((head, i) => Math.max(width(head), ...texts.map((row) => width(row[i] ?? ""))));
  const right = heads.map((_, i) => rows.some((row) => typeof row[i] === "number"));
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, i) => {
        const gap = " ".repeat(widths[i]! - width(cell));
        return right[i] ? gap + cell : cell + gap;
      })
      .join("   ")
      .trimEnd();
  return [pc.dim(line(heads)), ...texts.map(line)].map((text) => `  ${text}`).join("\n");
}

const number = (value: number) => (value === 0 ? pc.dim("·") : value.toLocaleString("en-US"));
const percent = (part: number, whole: number) => (whole === 0 ? "-" : `${((100 * part) / whole).toFixed(1)} %`);

/** Each hop with its instances: what they counted themselves, and by which path XLB says it came. */
export function formatHops(stats: Stats, served: ReadonlyMap<string, number>): string {
  const endpoints = new Map(
    stats.clusters.flatMap((cluster) => cluster.endpoints.map((endpoint) => [endpoint.address, endpoint] as const)),
  );
  return HOPS.map(({ from, to }) => {
    const instances = INSTANCES.filter((each) => each.service === to);
    const all = instances.reduce((sum, each) => sum + (served.get(each.name) ?? 0), 0);
    const rows = instances.map((each): Cell[] => {
      const count = served.get(each.name) ?? 0;
      const found = endpoints.get(`${each.ip}:9080`);
      const where = stats.datapath === "userspace" ? pc.dim("-") : each.outside ? pc.dim("not enrolled") : "enrolled";
      return [each.name, where, count, percent(count, all), ...paths(found), disagreement(found, count)];
    });
    const heads = ["instance", "server is", "served", "share", "same host", "cross host", "slow path", ""];
    return `\n  ${pc.bold(from)} ${pc.dim("→")} ${pc.bold(pc.cyan(to))}\n${table(heads, rows)}`;
  }).join("\n");
}

function paths(endpoint: EndpointStats | undefined): Cell[] {
  return endpoint === undefined ? ["?", "?", "?"] : [endpoint.same_host, endpoint.cross_host, endpoint.slow];
}

function disagreement(endpoint: EndpointStats | undefined, served: number): string {
  if (endpoint === undefined) return pc.red("XLB does not know it");
  const sum = endpoint.same_host + endpoint.cross_host + endpoint.slow;
  return sum === served ? "" : pc.red(`XLB counted ${sum}`);
}

export function formatReasons(stats: Stats): string {
  const slow = stats.listeners.reduce((sum, listener) => sum + listener.slow, 0);
  const all = stats.listeners.reduce((sum, listener) => sum + listener.requests, 0);
  const told = Object.entries(stats.reasons).filter(([reason, count]) => count > 0 && !NOT_SLOW.test(reason));
  const share = percent(all - slow, all);
  const line = `  ${share} of ${number(all)} requests were answered in the kernel, ${number(slow)} took the slow path`;
  if (told.length === 0) return line;
  return `${line}\n\n${table(
    ["reason", "count"],
    told.sort((a, b) => b[1] - a[1]),
  )}`;
}

/** Reasons that count ordinary work on the kernel path. */
const NOT_SLOW = /^(same.host|cross.host|request.body|response|slow.bytes)$/i;

export function formatVersions(
  versions: Readonly<Record<string, number>>,
  jasons: Readonly<Record<string, number>>,
): string {
  const all = Object.values(versions).reduce((sum, count) => sum + count, 0);
  const rows = Object.entries(WEIGHTS).map(([cluster, weight]): Cell[] => {
    const count = versions[cluster.slice("reviews-".length)] ?? 0;
    return [cluster, `${weight}.0 %`, percent(count, all), count];
  });
  const strangers = Object.entries(jasons).filter(([version]) => version !== "v2");
  const answered = Object.values(jasons).reduce((sum, count) => sum + count, 0);
  const jason =
    strangers.length === 0
      ? `${pc.green("✓")} all ${number(answered)} requests of jason went to reviews-v2`
      : pc.red(`✗ jason saw ${strangers.map(([version, count]) => `${version} ${count} times`).join(", ")}`);
  return `${table(["readers saw", "weight", "share", "pages"], rows)}\n\n  ${jason}`;
}

export interface Score {
  readonly name: string;
  readonly rps: number;
  readonly rpsMin: number;
  readonly rpsMax: number;
  readonly p50: number;
  readonly p99: number;
  readonly failed: number;
}

export function formatScores(scores: readonly Score[]): string {
  const best = Math.max(...scores.map((score) => score.rps));
  const rows = scores.map((score): Cell[] => [
    score.name === "XLB" ? pc.bold(pc.green(score.name)) : score.name,
    bar(score.rps / best),
    Math.round(score.rps),
    `${number(Math.round(score.rpsMin))}–${number(Math.round(score.rpsMax))}`,
    `${score.p50.toFixed(1)} ms`,
    `${score.p99.toFixed(1)} ms`,
    score.failed,
  ]);
  return table(["", "", "pages/s", "min–max", "p50", "p99", "failed"], rows);
}

const BAR = 28;
const EIGHTHS = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

function bar(share: number): string {
  const eighths = Math.round(share * BAR * 8);
  return pc.cyan(("█".repeat(eighths >> 3) + EIGHTHS[eighths & 7]).padEnd(BAR));
}
