/**
 * Writes src/tables/layout.gen.ts from the BTF of bpf/contract.h: the one place where TypeScript learns what the
 * kernel half's structs look like. `--check` compares instead and fails when the committed file is out of date.
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

interface BtfMember {
  name: string;
  type_id: number;
  bits_offset: number;
}
interface BtfType {
  id: number;
  kind: string;
  name: string;
  size?: number;
  type_id?: number;
  nr_elems?: number;
  nr_bits?: number;
  members?: BtfMember[];
  values?: { name: string; val: number }[];
}

const root = fileURLToPath(new URL("..", import.meta.url));
const target = join(root, "src/tables/layout.gen.ts");

function tool(names: string[]): string {
  for (const name of names) {
    for (const dir of ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"]) {
      if (existsSync(join(dir, name))) return join(dir, name);
    }
  }
  throw new Error(`none of ${names.join(", ")} is installed`);
}

const clang = tool(["clang-19", "clang"]);
const bpftool = tool(["bpftool"]);

function readBtf(): Map<number, BtfType> {
  const dir = mkdtempSync(join(tmpdir(), "xlb-layout-"));
  try {
    const object = join(dir, "layout.o");
    execFileSync(clang, [
      ...["-O2", "-g", "-target", "bpf", "-mcpu=v3", "-I", join(root, "build"), "-I", join(root, "bpf")],
      ...["-c", join(root, "tools/layout.bpf.c"), "-o", object],
    ]);
    const text = execFileSync(bpftool, ["btf", "dump", "-j", "file", object], { encoding: "utf8", maxBuffer: 1 << 28 });
    const { types } = JSON.parse(text) as { types: BtfType[] };
    return new Map(types.map((t) => [t.id, t]));
  } finally {
    rmSync(dir, { recursive: true });
  }
}

/** `#define XLB_NAME number` and the anonymous enums of the header, by the preprocessor's own reading. */
function readConstants(): [string, number][] {
  const header = readFileSync(join(root, "bpf/contract.h"), "utf8");
  const out: [string, number][] = [];
  for (const [, name, value] of header.matchAll(/^#define (XLB_\w+)\s+(\d+)/gm)) out.push([name!, Number(value)]);
  for (const [, body] of header.matchAll(/^enum \{\n([\s\S]*?)^\};/gm)) {
    for (const [, name, value] of body!.matchAll(/^\t(\w+) = (\w+)/gm)) out.push([name!, Number(value)]);
  }
  return out;
}

const btf = readBtf();

function resolve(id: number): BtfType {
  const t = btf.get(id)!;
  if (["TYPEDEF", "VOLATILE", "CONST"].includes(t.kind)) return resolve(t.type_id!);
  return t;
}

const pascal = (s: string) => s.replace(/(^|_)([a-z0-9])/g, (_, __, c: string) => c.toUpperCase());
const camel = (s: string) => s.replace(/_([a-z0-9])/g, (_, c: string) => c.toUpperCase());

interface Field {
  type: string;
  read: (at: string) => string;
  write: (at: string, value: string) => string;
  size: number;
}

function scalar(size: number): Field {
  const bits = size * 8;
  const name = size === 8 ? "BigUint64" : `Uint${bits}`;
  const little = size === 1 ? "" : ", true";
  return {
    type: size === 8 ? "bigint" : "number",
    read: (at) => `view.get${name}(${at}${little})`,
    write: (at, value) => `view.set${name}(${at}, ${value}${little});`,
    size,
  };
}

function field(id: number): Field {
  const t = resolve(id);
  switch (t.kind) {
    case "INT":
    case "ENUM":
      return scalar(t.size!);
    case "STRUCT":
      return {
        type: pascal(t.name),
        read: (at) => `${camel(t.name)}Row.read(view, ${at})`,
        write: (at, value) => `${camel(t.name)}Row.write(view, ${at}, ${value});`,
        size: t.size!,
      };
    case "ARRAY": {
      const n = t.nr_elems!;
      const element = field(t.type_id!);
      const zero = element.type === "bigint" ? "0n" : "0";
      if (element.size === 1) {
        return {
          type: "Uint8Array",
          read: (at) => `new Uint8Array(view.buffer, view.byteOffset + ${at}, ${n}).slice()`,
          write: (at, value) => `new Uint8Array(view.buffer, view.byteOffset + ${at}, ${n}).set(${value});`,
          size: n,
        };
      }
      return {
        type: `readonly ${element.type}[]`,
        read: (at) => `Array.from({ length: ${n} }, (_, i) => ${element.read(`${at} + i * ${element.size}`)})`,
        write: (at, value) =>
          `for (let i = 0; i < ${n}; i++) ${element.write(`${at} + i * ${element.size}`, `${value}[i] ?? ${zero}`)}`,
        size: n * element.size,
      };
    }
    default:
      throw new Error(`the contract uses a type that layoutgen does not know: ${t.kind} ${t.name}`);
  }
}

function structText(t: BtfType): string {
  const used = t.members!.filter((m) => m.name !== "pad");
  const fields = used.map((m) => ({ ...m, at: m.bits_offset / 8, f: field(m.type_id) }));
  const row = `${camel(t.name)}Row`;
  const lines = [
    `export interface ${pascal(t.name)} {`,
    ...fields.map((m) => `  readonly ${camel(m.name)}: ${m.f.type};`),
    "}",
    "",
    `export const ${camel(t.name)}Offsets = {`,
    ...fields.map((m) => `  ${camel(m.name)}: ${m.at},`),
    "} as const;",
    "",
    `export const ${row}: Row<${pascal(t.name)}> = row({`,
    `  size: ${t.size},`,
    "  read: (view, at) => ({",
    ...fields.map((m) => `    ${camel(m.name)}: ${m.f.read(`at + ${m.at}`)},`),
    "  }),",
    "  write: (view, at, value) => {",
    ...fields.map((m) => `    ${m.f.write(`at + ${m.at}`, `value.${camel(m.name)}`)}`),
    "  },",
    "});",
    "",
  ];
  return lines.join("\n");
}

function enumText(t: BtfType): string {
  const values = t.values!;
  const common = values[0]!.name.split("_")[0]!;
  const prefix = values.every((v) => v.name.startsWith(`${common}_`)) ? `${common}_` : "";
  const short = (name: string) => camel(name.slice(prefix.length).toLowerCase());
  const word = (name: string) => name.slice(prefix.length).toLowerCase();
  return [
    `export const ${pascal(t.name)} = {`,
    ...values.map((v) => `  ${short(v.name)}: ${v.val},`),
    "} as const;",
    "",
    `export const ${camel(t.name)}Words: Readonly<Record<number, string>> = {`,
    ...values.map((v) => `  ${v.val}: "${word(v.name)}",`),
    "};",
    "",
  ].join("\n");
}

function generate(): string {
  const layout = [...btf.values()].find((t) => t.kind === "STRUCT" && t.name === "layout")!;
  const members = layout.members!.map((m) => resolve(m.type_id));
  return [
    "// Generated by tools/layoutgen.ts from bpf/contract.h. Do not edit.",
    "",
    "/** How a struct of the kernel half lies in memory. All are little-endian. */",
    "export interface Row<T> {",
    "  readonly size: number;",
    "  read(view: DataView, at: number): T;",
    "  write(view: DataView, at: number, value: T): void;",
    "  encode(value: T): Uint8Array;",
    "  decode(bytes: Uint8Array): T;",
    "}",
    "",
    'function row<T>(base: Pick<Row<T>, "size" | "read" | "write">): Row<T> {',
    "  return {",
    "    ...base,",
    "    encode(value) {",
    "      const bytes = new Uint8Array(base.size);",
    "      base.write(new DataView(bytes.buffer), 0, value);",
    "      return bytes;",
    "    },",
    "    decode: (bytes) => base.read(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), 0),",
    "  };",
    "}",
    "",
    ...readConstants().map(([name, value]) => `export const ${name} = ${value};`),
    "",
    ...members.map((t) => (t.kind === "STRUCT" ? structText(t) : enumText(t))),
  ].join("\n");
}

const text = `${generate().trimEnd()}\n`;
if (process.argv.includes("--check")) {
  if (!existsSync(target) || readFileSync(target, "utf8") !== text) {
    process.stderr.write("src/tables/layout.gen.ts is out of date: run `npx tsx tools/layoutgen.ts`\n");
    process.exit(1);
  }
} else {
  writeFileSync(target, text);
}
