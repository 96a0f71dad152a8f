// Bundles the command line and the daemon: dist/xlb.mjs, and a chunk for each part that is loaded when needed.
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = fileURLToPath(new URL("..", import.meta.url));
const out = join(root, "dist");
const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));

rmSync(out, { recursive: true, force: true });
mkdirSync(join(out, "gen"), { recursive: true });

const plain = {
  absWorkingDir: root,
  bundle: true,
  platform: "node",
  target: "node20",
  format: "esm",
  sourcemap: "linked",
  sourcesContent: false,
  legalComments: "none",
  external: ["*.node"],
  define: { XLB_VERSION: JSON.stringify(version) },
  // CommonJS packages inside an ES module still call require() for node's own modules.
  banner: {
    js: 'import { createRequire as xlbRequire } from "node:module"; const require = xlbRequire(import.meta.url);',
  },
  logLevel: "warning",
};
await build({
  ...plain,
  entryPoints: { xlb: "src/cli/main.ts" },
  outdir: "dist",
  splitting: true,
  outExtension: { ".js": ".mjs" },
  chunkNames: "[name]-[hash]",
});

// Generated data is read by code beside it, as "gen/…": in src/<room>/ as in dist/.
for (const room of readdirSync(join(root, "src"))) {
  const generated = join(root, "src", room, "gen");
  let names = [];
  try {
    names = readdirSync(generated);
  } catch {
    continue;
  }
  for (const name of names) {
    if (name.endsWith(".binpb")) cpSync(join(generated, name), join(out, "gen", name));
  }
}
