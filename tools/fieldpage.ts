/**
 * `make fields`: writes docs/fields.md, what becomes of every field of Envoy's that a configuration may hold. That the
 * file is current, test/docs.test.ts says.
 */
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Fate, Row, Section } from "./probe.ts";
import { probe, RANKS, shortName } from "./probe.ts";

const FILE = fileURLToPath(new URL("../docs/fields.md", import.meta.url));

const OPENING = `# Envoy's fields

Written by \`make fields\`, which tries each field with values made from its type: what the reader and the compiler say
stands here. [configuration.md](configuration.md) says what the fields mean to XLB.

- **kernel**: honoured, and the kernel path goes on serving.
- **slow path**: honoured, and what it belongs to is served by the slow path; \`xlb validate\` says so.
- **accepted**: what is served is the same with it and without.
- Refused: the configuration is not taken, and the field is named. A message that stands in no table here is one that
  only refused fields lead to.

Where a field holds a message, that has its own table. A field of several kinds of value is *kernel* if one of them is.
One that has no place in every configuration (\`dns_refresh_rate\` in a STATIC cluster) is tried where it has one.
`;

/** The whole page. */
export function fieldPage(): string {
  const tables = new Map<string, { section: Section; owners: string[] }>();
  for (const section of probe()) {
    const key = `${section.desc.typeName}\n${table(section)}`;
    const known = tables.get(key);
    if (known === undefined) tables.set(key, { section, owners: [section.owner] });
    else known.owners.push(section.owner);
  }
  const chapters = [...tables.values()].map(({ section, owners }) => {
    const places = [...new Set(owners)].filter((owner) => owner !== "").map((owner) => `\`${owner}\``);
    const place = places.length === 0 ? "" : `, of ${places.join(", ")}`;
    return `## ${shortName(section.desc)}\n\n${wrap(`\`${section.desc.typeName}\`${place}.`)}\n\n${table(section)}`;
  });
  return [OPENING, ...chapters].join("\n");
}

function table({ rows }: Section): string {
  const isRefused = ({ fates }: Row) => fates.every(({ fate }) => fate.kind === "refused");
  const taken = rows.filter((row) => !isRefused(row));
  const refused = rows.filter(isRefused).map(({ field }) => `\`${field}\``);
  return [
    ...(taken.length === 0
      ? []
      : ["| field | |\n|---|---|\n", ...taken.map((row) => `| \`${row.field}\` | ${cell(row)} |\n`)]),
    ...(refused.length === 0 ? [] : [`${taken.length === 0 ? "" : "\n"}${wrap(`Refused: ${refused.join(", ")}.`)}\n`]),
  ].join("");
}

/** So many refused values are not named. */
const MANY = 8;

function cell({ fates, mend }: Row): string {
  const [first, ...others] = fates;
  if (first === undefined) return "";
  if (others.length === 0) return wordOf(first.fate) + (mend === undefined ? "" : `; others refused: ${mend}`);
  if (first.values.length === 0) {
    const [best, ...rest] = fates.toSorted((a, b) => RANKS[a.fate.kind] - RANKS[b.fate.kind]);
    return [wordOf(best!.fate), ...rest.map(({ fate }) => `some values ${wordOf(fate)}`)].join("; ");
  }
  const told = fates.map(({ fate, values }) => {
    if (fate.kind === "refused" && values.length > MANY) return "others refused";
    return `${values.map((value) => `\`${value}\``).join(", ")}: ${wordOf(fate)}`;
  });
  return told.join("; ");
}

function wordOf(fate: Fate): string {
  switch (fate.kind) {
    case "kernel":
      return "kernel";
    case "none":
      return "accepted";
    case "refused":
      return "refused";
    case "slow":
      return fate.why === undefined ? "slow path" : `slow path: ${fate.why}`;
    default:
      return fate satisfies never;
  }
}

/** Lines of at most 120 characters, broken at spaces. */
function wrap(text: string): string {
  return text.replace(/(.{1,118})(?: |$)/g, "$1\n").trimEnd();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(FILE, fieldPage());
