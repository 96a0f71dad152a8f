import type { Dice } from "../dice.ts";
import { nameEndpoints, setHeader } from "./fields.ts";
import type { ActionPart, Clusters, Draft, EndpointSpec, Json, OptionPart, RouteSpec, Spec } from "./spec.ts";

/** Circuit breakers, timeouts, retries and mirrors, and requests that tell servers to fail or to be late: tries.ts. */

const PREVIOUS_HOSTS: Json = {
  name: "previous",
  typed_config: { "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate" },
};

/** Of which the kernel path can follow each. */
const BLIND = [
  "connect-failure",
  "refused-stream",
  "reset-before-request",
  "retriable-status-codes",
  "retriable-headers",
  "cancelled",
  "deadline-exceeded",
  "resource-exhausted",
  "internal",
  "http3-post-connect-failure",
];
const CONDITIONS = [...BLIND, "5xx", "gateway-error", "reset", "retriable-4xx", "envoy-ratelimited", "unavailable"];

const someOf = (of: readonly string[], dice: Dice) =>
  [...new Set(Array.from({ length: dice.between(1, 3) }, () => dice.one(of)))].join(dice.one([",", ", "]));

/** Waits between tries are short, so that they do not meet with what else takes time. */
const backOff = (dice: Dice): Json => ({
  base_interval: "0.001s",
  ...(dice.chance(0.5) ? { max_interval: dice.one(["0.001s", "0.01s"]) } : {}),
});

const previousHosts = (dice: Dice): Json =>
  dice.chance(0.3)
    ? {
        retry_host_predicate: [PREVIOUS_HOSTS],
        ...(dice.chance(0.6) ? { host_selection_retry_max_attempts: dice.between(0, 5) } : {}),
      }
    : {};

const AGAIN: readonly Json[] = [
  { name: "x-again", string_match: { exact: "yes" } },
  { name: "x-again", present_match: true },
  { name: "X-Again", string_match: { prefix: "y" }, invert_match: true },
  { name: ":status", string_match: { exact: "418" } },
];

function blindPolicy(dice: Dice): Json {
  return {
    retry_on: someOf(BLIND, dice),
    ...(dice.chance(0.7) ? { num_retries: dice.between(0, 2) } : {}),
    retry_back_off: backOff(dice),
    ...previousHosts(dice),
  };
}

export const anyTries = (dice: Dice): Json => ({ ...policy(dice), ...(dice.chance(0.5) ? { retry_on: "5xx" } : {}) });

function policy(dice: Dice): Json {
  const asks = dice.chance(0.15) ? { retriable_request_headers: [{ name: "x-may", present_match: true }] } : {};
  return {
    retry_on: someOf(CONDITIONS, dice),
    ...(dice.chance(0.7) ? { num_retries: dice.between(0, 3) } : {}),
    ...(dice.chance(0.8) ? { retry_back_off: backOff(dice) } : {}),
    ...(dice.chance(0.5) ? { retriable_status_codes: [418, dice.one([200, 404, 503])] } : {}),
    ...(dice.chance(0.5) ? { retriable_headers: [dice.one(AGAIN)] } : {}),
    ...(dice.chance(0.25) ? { per_try_timeout: dice.one(["0.3s", "5s", "0s"]) } : {}),
    ...(dice.chance(0.15) ? { per_try_idle_timeout: dice.one(["0.3s", "5s"]) } : {}),
    ...(dice.chance(0.15)
      ? {
          rate_limited_retry_back_off: {
            reset_headers: [{ name: "retry-after", format: "SECONDS" }],
            ...(dice.chance(0.5) ? { max_interval: "10s" } : {}),
          },
        }
      : {}),
    ...previousHosts(dice),
    ...asks,
  };
}

const timeout = (dice: Dice): Json =>
  dice.chance(0.5) ? { timeout: dice.one(["0s", "0.5s", "0.5s", "5s", "60s"]) } : {};

/** `request_mirror_policies` of whatever may have them. */
export function someMirrors(dice: Dice, { quiet }: Clusters): Json {
  return {
    request_mirror_policies: Array.from({ length: dice.between(1, 2) }, () => ({
      ...(dice.chance(0.2) ? { cluster_header: "x-mirror" } : { cluster: quiet() }),
      ...(dice.chance(0.3)
        ? { runtime_fraction: { default_value: { numerator: dice.one([0, 100]), denominator: "HUNDRED" } } }
        : {}),
      ...(dice.chance(0.3) ? { disable_shadow_host_suffix_append: dice.chance(0.8) } : {}),
    })),
  };
}

// ---- requests ----

const ANSWERS = ["200", "200", "201", "404", "418", "500", "502", "503", "503", "504", "409", "429"];
const FIELDS = [
  "x-again=yes",
  "x-again=no",
  "grpc-status=1",
  "grpc-status=4",
  "grpc-status=14",
  "x-envoy-ratelimited=true",
  "x-envoy-overloaded=true",
  "retry-after=0",
];
const ENDS = ["reset", "reset", "close"];
const SLOW = ["late", "hang"];

const act = (dice: Dice): string => {
  if (dice.chance(0.25)) return dice.one(ENDS);
  return `${dice.one(ANSWERS)}${dice.chance(0.3) ? `+${dice.one(FIELDS)}` : ""}`;
};

/** May one more request of this configuration take its time? */
const takesTime = ({ slow }: Draft): boolean => slow.left-- > 0;

const setActs = (acts: readonly string[], draft: Draft, dice: Dice) =>
  setHeader("x-act", [["{nonce}", ...acts].join(" ")], draft, dice);

export function aimActs(draft: Draft, dice: Dice): void {
  const acts = Array.from({ length: dice.one([1, 1, 2, 2, 3, 4]) }, () => act(dice));
  if (dice.chance(0.3) && takesTime(draft)) acts[dice.between(0, acts.length - 1)] = dice.one(SLOW);
  if (dice.chance(0.6)) acts.push("200");
  setActs(acts, draft, dice);
  if (dice.chance(0.5)) draft.headers.push(["x-may", "1"]);
}

/** Some at once, of which each takes its time. */
function aimBurst(draft: Draft, dice: Dice): void {
  if (!takesTime(draft)) return;
  setActs(["late"], draft, dice);
  setHeader("x-burst", [String(dice.between(2, 3))], draft, dice);
}

/** Not all of a request: only the time that it may take ends the wait for the rest. */
export function aimShort(draft: Draft, dice: Dice): void {
  if (!takesTime(draft)) return;
  draft.method = "POST";
  draft.body = "";
  draft.headers.push(["Content-Length", "9"]);
  setHeader("x-short", ["1"], draft, dice);
}

/** gRPC's clients say how long they wait. */
function aimGrpc(_: RouteSpec, draft: Draft, dice: Dice): void {
  aimActs(draft, dice);
  if (dice.chance(0.3)) draft.headers.push(["grpc-timeout", dice.one(["60S", "600m", "x"])]);
}

const aim = (_: RouteSpec, draft: Draft, dice: Dice) => aimActs(draft, dice);

// ---- routes ----

export const LIMITED: readonly ActionPart[] = [
  {
    name: "retries that look at no answer",
    kernel: true,
    weight: 1.2,
    make: (dice, { fresh }) => ({
      route: { cluster: fresh(), ...timeout(dice), ...(dice.chance(0.8) ? { retry_policy: blindPolicy(dice) } : {}) },
    }),
    aim,
  },
  {
    name: "retries",
    kernel: false,
    weight: 1.8,
    make: (dice, { fresh, limited }) => ({
      route: {
        cluster: dice.chance(0.6) ? limited() : fresh(),
        ...timeout(dice),
        retry_policy: { ...policy(dice), ...(dice.chance(0.3) ? { retry_on: "5xx" } : {}) },
        ...(dice.chance(0.2) ? { priority: "HIGH" } : {}),
      },
      ...(dice.chance(0.2) ? { per_request_buffer_limit_bytes: dice.one([10, 10_000]) } : {}),
    }),
    aim,
  },
  {
    name: "limits of streams",
    kernel: false,
    weight: 0.8,
    make: (dice, { fresh, limited }) => ({
      route: {
        cluster: dice.chance(0.6) ? limited() : fresh(),
        ...timeout(dice),
        ...(dice.chance(0.5) ? { idle_timeout: dice.one(["0.5s", "0s", "60s"]) } : {}),
        ...(dice.chance(0.5)
          ? {
              max_stream_duration: {
                max_stream_duration: dice.one(["0.5s", "0s", "60s"]),
                ...(dice.chance(0.4)
                  ? { grpc_timeout_header_max: dice.one(["0.5s", "60s"]), grpc_timeout_header_offset: "0.1s" }
                  : {}),
              },
            }
          : { max_grpc_timeout: dice.one(["0s", "5s"]), grpc_timeout_offset: "0.1s" }),
        ...(dice.chance(0.3) ? { retry_policy: policy(dice) } : {}),
      },
    }),
    aim: aimGrpc,
  },
  {
    name: "request_mirror_policies",
    kernel: false,
    weight: 0.8,
    make: (dice, clusters) => ({
      route: {
        cluster: dice.chance(0.3) ? clusters.limited() : clusters.fresh(),
        ...someMirrors(dice, clusters),
        ...(dice.chance(0.3) ? { retry_policy: policy(dice) } : {}),
      },
    }),
    aim(_, draft, dice) {
      aimActs(draft, dice);
      if (dice.chance(0.5)) draft.headers.push(["x-mirror", dice.chance(0.8) ? draft.quiet : "nowhere"]);
    },
  },
  {
    name: "circuit breakers",
    kernel: false,
    weight: 0.8,
    make: (_, { limited }) => ({ route: { cluster: limited(), timeout: "60s" } }),
    aim: (_, draft, dice) => (dice.chance(0.4) ? aimBurst(draft, dice) : aimActs(draft, dice)),
  },
];

/** What a virtual host says for its routes. */
export function limitsOfHost(dice: Dice, clusters: Clusters): Json {
  const all: Json = {
    retry_policy: policy(dice),
    include_request_attempt_count: dice.chance(0.8),
    include_attempt_count_in_response: dice.chance(0.8),
    per_request_buffer_limit_bytes: dice.one([10, 10_000]),
    ...someMirrors(dice, clusters),
  };
  const names = Object.keys(all);
  const first = dice.one(names);
  return Object.fromEntries(Object.entries(all).filter(([name]) => name === first || dice.chance(0.3)));
}

// ---- clusters ----

/** As many as one burst may have, or none: of more at once time would decide. */
function thresholds(dice: Dice): Json {
  return {
    ...(dice.chance(0.3) ? { max_requests: dice.between(0, 2) } : {}),
    ...(dice.chance(0.3) ? { max_connections: dice.between(1, 2) } : {}),
    ...(dice.chance(0.3) ? { max_pending_requests: dice.between(0, 2) } : {}),
    ...(dice.chance(0.3) ? { max_retries: dice.one([0, 1, 5]) } : {}),
    ...(dice.chance(0.2)
      ? {
          retry_budget: dice.one<Json>([
            {},
            { budget_percent: { value: 50 }, min_retry_concurrency: 1 },
            { budget_percent: { value: 0 }, min_retry_concurrency: 0 },
          ]),
        }
      : {}),
    ...(dice.chance(0.2) ? { track_remaining: true } : {}),
  };
}

export function limitedOptions(dice: Dice): Json {
  const high = dice.chance(0.5) ? [{ priority: "HIGH", ...thresholds(dice) }] : [];
  const perHost = dice.chance(0.2) ? { per_host_thresholds: [{ max_connections: dice.between(1, 3) }] } : {};
  return {
    lb_policy: dice.one(["ROUND_ROBIN", "LEAST_REQUEST", "RANDOM"]),
    ...(dice.chance(0.8) ? { circuit_breakers: { thresholds: [thresholds(dice), ...high], ...perHost } } : {}),
    ...(dice.chance(0.5) ? upstreamOptions(dice) : {}),
    ...(dice.chance(0.1) ? { connection_pool_per_downstream_connection: true } : {}),
  };
}

export function limitedEndpoints(dice: Dice): EndpointSpec[] {
  const length = dice.one([1, 1, 2, 3]);
  const endpoints = Array.from({ length }, () => ({ near: dice.chance(0.6), dead: dice.chance(0.2) }));
  if (dice.chance(0.3)) nameEndpoints(endpoints, dice);
  return endpoints;
}

const PROTOCOL = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/** `common_http_protocol_options` of a cluster. */
function upstreamOptions(dice: Dice): Json {
  const common_http_protocol_options = {
    ...(dice.chance(0.3) ? { idle_timeout: dice.one(["5s", "3600s"]) } : {}),
    ...(dice.chance(0.3) ? { max_connection_duration: "60s" } : {}),
    ...(dice.chance(0.3) ? { max_requests_per_connection: dice.between(1, 3) } : {}),
    ...(dice.chance(0.3) ? { max_stream_duration: dice.one(["0.5s", "60s"]) } : {}),
  };
  const { max_requests_per_connection = 1, ...others } = common_http_protocol_options;
  const former = dice.one<Json>([
    { common_http_protocol_options, http_protocol_options: {} },
    { common_http_protocol_options: others, max_requests_per_connection },
    { protocol_selection: dice.one(["USE_CONFIGURED_PROTOCOL", "USE_DOWNSTREAM_PROTOCOL"]) },
  ]);
  if (dice.chance(0.3)) return former;
  return {
    /* Where both are there, these count for nothing. */
    ...(dice.chance(0.1) ? { common_http_protocol_options: { max_requests_per_connection: 1 } } : {}),
    typed_extension_protocol_options: {
      [PROTOCOL]: {
        "@type": `type.googleapis.com/${PROTOCOL}`,
        ...dice.one<Json>([
          { explicit_http_config: { http_protocol_options: {} } },
          { use_downstream_protocol_config: { http_protocol_options: {} } },
          { use_downstream_protocol_config: {} },
        ]),
        common_http_protocol_options,
      },
    },
  };
}

// ---- listeners ----

type Manager = { readonly [Field in keyof Spec]: Spec[Field] };

function addCommon(manager: Json, more: Json): void {
  manager.common_http_protocol_options = {
    ...(manager.common_http_protocol_options as Json | undefined),
    ...more,
  };
}

const aimLate = (_: unknown, draft: Draft, dice: Dice) => (dice.chance(0.5) ? aimShort : aimActs)(draft, dice);

export const LIMITED_LISTENER: readonly OptionPart<Manager>[] = [
  {
    name: "stream_idle_timeout",
    kernel: false,
    chance: 0.04,
    put({ manager }, dice) {
      manager.stream_idle_timeout = dice.one(["0.5s", "0.5s", "60s"]);
    },
    aim: (spec, draft, dice) =>
      spec.manager.stream_idle_timeout === "60s" ? aimActs(draft, dice) : aimLate(spec, draft, dice),
  },
  {
    name: "request_timeout",
    kernel: false,
    chance: 0.04,
    put({ manager }) {
      manager.request_timeout = "0.5s";
    },
    aim: aimLate,
  },
  {
    name: "request_headers_timeout",
    kernel: true,
    chance: 0.04,
    put({ manager }) {
      manager.request_headers_timeout = "5s";
    },
  },
  {
    name: "limits of connections",
    kernel: false,
    chance: 0.06,
    put({ manager }, dice) {
      const all: Json = {
        idle_timeout: "60s",
        max_connection_duration: "60s",
        max_requests_per_connection: dice.between(1, 3),
        max_stream_duration: dice.one(["0.5s", "60s"]),
      };
      const name = dice.one(Object.keys(all));
      addCommon(manager, { [name]: all[name] });
      if (dice.chance(0.3)) manager.drain_timeout = "1s";
    },
    aim: (_, draft, dice) => aimActs(draft, dice),
  },
];
