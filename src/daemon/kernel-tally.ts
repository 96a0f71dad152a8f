import type { KernelTotals, Tally } from "../health/outliers.ts";
import type { Datapath } from "../kernel/datapath.ts";
import type { OutlierDetection } from "../model/outlier.ts";
import { longest, type StreakKind, type Streaks } from "../route/outlier.ts";
import type { Ids } from "../tables/compiled.ts";

/** What comes of requests is counted where the hooks count it. */
export class KernelTally implements Tally {
  readonly #datapath: Datapath;
  readonly #ids: Ids;

  constructor(datapath: Datapath, ids: Ids) {
    this.#datapath = datapath;
    this.#ids = ids;
  }

  #id(name: string): number {
    return this.#ids.endpoints.get(name)!;
  }

  streaks(name: string): Streaks {
    const [datapath, id] = [this.#datapath, this.#id(name)];
    return {
      add: (kind: StreakKind) => datapath.addError(id, kind),
      end: (kind: StreakKind) => datapath.endErrors(id, kind),
      length: (kind: StreakKind) => datapath.errors(id, kind),
    };
  }

  totals(name: string): KernelTotals {
    const counts = this.#datapath.endpointCounts(this.#id(name));
    const { responses1xx, responses2xx, responses3xx, responses4xx, responses5xx, sameHost, crossHost, direct } =
      counts;
    return {
      answers: Number(responses1xx + responses2xx + responses3xx + responses4xx + responses5xx),
      errors: Number(responses5xx),
      requests: Number(sameHost + crossHost),
      connections: Number(direct),
    };
  }

  watch(name: string, settings: OutlierDetection): void {
    const most = { errors: longest("errors", settings), gatewayErrors: longest("gatewayErrors", settings) };
    this.#datapath.watchErrors(this.#id(name), most);
  }
}
