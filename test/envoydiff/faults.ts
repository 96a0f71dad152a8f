import type { Dice } from "../dice.ts";
import type { Draft, Json, OptionPart, Spec } from "./spec.ts";

/** Filters before the router: those that do nothing, and the one that injects faults. */

const HTTP = "type.googleapis.com/envoy.extensions.filters.http";
const FAULT = "envoy.filters.http.fault";
const FAULT_TYPE = `${HTTP}.fault.v3.HTTPFault`;

/** All, none, or some of the requests. */
function percentage(dice: Dice): Json {
  const numerator = dice.one([100, 100, 100, 0, 50]);
  if (numerator === 100 && dice.chance(0.3)) return { numerator: 1_000_000, denominator: "MILLION" };
  return dice.chance(0.95) ? { numerator } : {};
}

function abort(dice: Dice): Json {
  const how = dice.one<Json>([
    { http_status: dice.one([200, 204, 304, 400, 404, 418, 503, 599]) },
    { grpc_status: dice.one([0, 8, 14, 99]) },
    { header_abort: {} },
  ]);
  return { ...how, percentage: percentage(dice) };
}

function delay(dice: Dice): Json {
  return { ...dice.one<Json>([{ fixed_delay: "0.02s" }, { header_delay: {} }]), percentage: percentage(dice) };
}

const HEADERS: readonly Json[] = [
  { name: "x-fault", present_match: true },
  { name: "x-fault", exact_match: "b", invert_match: true },
  { name: ":method", string_match: { exact: "POST" } },
];

function fault(clusters: Spec["clusters"], dice: Dice): Json {
  if (dice.chance(0.1)) return {};
  return {
    ...(dice.chance(0.85) ? { abort: abort(dice) } : {}),
    ...(dice.chance(0.4) ? { delay: delay(dice) } : {}),
    ...(dice.chance(0.4) ? { headers: [dice.one(HEADERS)] } : {}),
    ...(dice.chance(0.2) ? { upstream_cluster: dice.one(clusters).name } : {}),
    ...(dice.chance(0.2) ? { downstream_nodes: ["n", "m"] } : {}),
    ...(dice.chance(0.1) ? { disable_downstream_cluster_stats: true, abort_percent_runtime: "some.key" } : {}),
  };
}

const HEADER_VALUES = ["503", "200", "418", "8", "999", "", "x", "4294967296", "-1", "0"];

function aim(_: unknown, draft: Draft, dice: Dice): void {
  const maybe = (name: string, values: readonly string[], chance: number) => {
    if (dice.chance(chance)) draft.headers.push([name, dice.one(values)]);
  };
  maybe("x-fault", ["", "a", "b"], 0.5);
  maybe("x-envoy-downstream-service-node", ["n", "m", "o"], 0.4);
  maybe("x-envoy-fault-abort-request", HEADER_VALUES, 0.4);
  maybe("x-envoy-fault-abort-grpc-request", HEADER_VALUES, 0.2);
  maybe("x-envoy-fault-abort-request-percentage", ["0", "100", "50", "200", "x"], 0.3);
  maybe("x-envoy-fault-delay-request", ["20", "0", "x"], 0.2);
  maybe("x-envoy-fault-delay-request-percentage", ["0", "100", "x"], 0.2);
  maybe("content-type", ["application/grpc", "application/grpc+x"], 0.1);
}

type Filtered = Pick<Spec, "filters" | "routes" | "clusters">;

export const FILTERS: readonly OptionPart<Filtered>[] = [
  {
    name: "http_filters that do nothing",
    kernel: true,
    chance: 0.1,
    put({ filters }, dice) {
      if (dice.chance(0.6)) filters?.push({ name: "cors", typed_config: { "@type": `${HTTP}.cors.v3.Cors` } });
      if (dice.chance(0.6))
        filters?.push({ name: "stats", typed_config: { "@type": `${HTTP}.grpc_stats.v3.FilterConfig` } });
      if (dice.chance(0.3))
        filters?.push({ name: "s", typed_config: { "@type": `${HTTP}.stateful_session.v3.StatefulSession` } });
    },
  },
  {
    name: "the fault filter",
    kernel: false,
    chance: 0.08,
    put({ filters, routes, clusters }, dice) {
      const mine = (some: Json): Json => ({ [FAULT]: { "@type": FAULT_TYPE, ...some } });
      const own = () => ({ typed_per_filter_config: mine(fault(clusters, dice)) });
      filters?.push({
        name: FAULT,
        typed_config: { "@type": FAULT_TYPE, ...(dice.chance(0.4) ? fault(clusters, dice) : {}) },
      });
      if (dice.chance(0.2)) Object.assign(routes, own());
      for (const host of routes.virtual_hosts) {
        if (dice.chance(0.25)) Object.assign(host, own());
        for (const route of host.routes) if (dice.chance(0.5)) Object.assign(route, own());
      }
    },
    aim,
  },
];
