// A reporter for node's test runner, which loads it before it knows TypeScript: the failed tests alone, a line each
// with its place and why, so that they stand together at the end of a long output.
import { relative } from "node:path";

/** More than so many have one cause. */
const MOST = 40;

/** Nothing where none failed; open ones (todo) did not fail, nor did what only holds one that did. */
export default async function* failing(events) {
  const lines = [];
  for await (const { type, data } of events) {
    if (type !== "test:fail" || data.todo !== undefined || data.details.type === "suite") continue;
    const { error } = data.details;
    if (error.failureType === "subtestsFailed") continue;
    const [first, ...more] = String(error.cause?.message ?? error.cause ?? error.message).split("\n");
    /* What differs says more than that something does. */
    const why = [first, ...more.filter((line) => /^[+-] {2,}/.test(line))].join(" ");
    lines.push(
      `FAILED ${relative(process.cwd(), data.file ?? "")}:${data.line ?? ""}: ${data.name}: ${why.slice(0, 300)}\n`,
    );
  }
  yield* lines.slice(0, MOST);
  if (lines.length > MOST) yield `FAILED and ${lines.length - MOST} more\n`;
}
