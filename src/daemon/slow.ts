import type { Socket } from "node:net";
import type { Logger } from "pino";
import type { Datapath } from "../kernel/datapath.ts";
import type { Endpoint, Listener } from "../model/config.ts";
import type { Ids } from "../tables/compiled.ts";
import type { Anchor, Connections } from "./connections.ts";
import type { SlowCounters } from "./counters.ts";
import type { KernelPath, Lost } from "./kernel-path.ts";
import type { ReferenceRouter } from "./router.ts";

export class SlowSide {
  constructor(_router: ReferenceRouter, _counters: SlowCounters, _log: Logger) {}
  open = 0;
  joinKernel(_d: Datapath, _p: KernelPath, _ids: Ids): void {}
  serveAnchor(_a: Anchor, stream: Socket, _i: Buffer | undefined, _l: Listener | undefined): void {
    console.error("SLOW", _a.info.reason);
    stream.destroy();
  }
  serveSocket(_s: Socket, _l: Listener): void {}
  refuse(_c: Connections, _a: Anchor, _why: Lost, _l: Listener | undefined): void { console.error("REFUSE", _why); _c.reset(_a); }
  active(_c: string, _e: Endpoint): number {
    return 0;
  }
  async drain(_ms: number): Promise<void> {}
}
