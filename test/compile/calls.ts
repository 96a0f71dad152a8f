import { Session } from "node:inspector/promises";

/**
 * Work that is counted, not timed: how often functions of the given folders of src/ are called. V8 counts each call, so
 * that two runs give the same number, on a busy machine too.
 */
export async function callsOf(rooms: readonly string[], work: () => void): Promise<number> {
  const session = new Session();
  session.connect();
  try {
    await session.post("Profiler.enable");
    await session.post("Profiler.startPreciseCoverage", { callCount: true, detailed: false });
    /* What was called before. */
    await session.post("Profiler.takePreciseCoverage");
    work();
    const { result } = await session.post("Profiler.takePreciseCoverage");
    return result
      .filter(({ url }) => rooms.some((room) => url.includes(`/src/${room}/`)))
      .flatMap(({ functions }) => functions)
      .reduce((sum, { ranges }) => sum + (ranges[0]?.count ?? 0), 0);
  } finally {
    session.disconnect();
  }
}
