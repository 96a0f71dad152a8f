import type { Dice } from "../dice.ts";
import type { Draft, Json, OptionPart, Spec, VirtualHostSpec } from "./spec.ts";

/**
 * The headers that Envoy sets itself: options that ask for them or shape them (docs/decisions/0012), and requests and
 * answers that carry them.
 */

interface OwnPart {
  readonly name: string;
  readonly chance: number;
  /** Does it ask, by itself? */
  readonly asks?: boolean;
  put(manager: Json, dice: Dice): void;
}

const boolean = (name: string, chance: number, asks: boolean): OwnPart => ({
  name,
  chance,
  asks,
  put: (manager) => Object.assign(manager, { [name]: true }),
});

const CIDRS = [
  { address_prefix: "127.0.0.0", prefix_len: 8 },
  { address_prefix: "10.0.0.0", prefix_len: 8 },
  { address_prefix: "10.1.2.3", prefix_len: 32 },
  { address_prefix: "0.0.0.0", prefix_len: 0 },
  { address_prefix: "::", prefix_len: 0 },
  { address_prefix: "::ffff:a00:0", prefix_len: 104 },
];

const OWN: readonly OwnPart[] = [
  boolean("use_remote_address", 0.5, true),
  {
    name: "xff_num_trusted_hops",
    chance: 0.35,
    put: (manager, dice) => Object.assign(manager, { xff_num_trusted_hops: dice.between(0, 2) }),
  },
  boolean("skip_xff_append", 0.2, true),
  boolean("append_x_forwarded_port", 0.3, true),
  {
    name: "via",
    chance: 0.3,
    asks: true,
    put: (manager, dice) => Object.assign(manager, { via: dice.one(["1.1 proxy", "v"]) }),
  },
  { name: "server_name", chance: 0.3, asks: true, put: (manager) => Object.assign(manager, { server_name: "own" }) },
  {
    name: "server_header_transformation",
    chance: 0.4,
    put: (manager, dice) =>
      Object.assign(manager, {
        server_header_transformation: dice.one(["OVERWRITE", "APPEND_IF_ABSENT", "PASS_THROUGH"]),
      }),
  },
  {
    name: "generate_request_id",
    chance: 0.4,
    put: (manager, dice) => Object.assign(manager, { generate_request_id: dice.chance(0.5) }),
  },
  boolean("preserve_external_request_id", 0.3, true),
  boolean("always_set_request_id_in_response", 0.3, true),
  {
    name: "request_id_extension",
    chance: 0.3,
    put: (manager, dice) =>
      Object.assign(manager, {
        request_id_extension: {
          typed_config: {
            "@type": "type.googleapis.com/envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig",
            ...(dice.chance(0.5) ? { pack_trace_reason: dice.chance(0.5) } : {}),
            use_request_id_for_trace_sampling: dice.chance(0.5),
          },
        },
      }),
  },
  {
    name: "scheme_header_transformation",
    chance: 0.2,
    asks: true,
    put: (manager, dice) =>
      Object.assign(manager, {
        scheme_header_transformation: dice.one([
          { scheme_to_overwrite: "https" },
          { scheme_to_overwrite: "http" },
          { match_upstream: true },
        ]),
      }),
  },
  boolean("add_user_agent", 0.2, true),
  {
    name: "internal_address_config",
    chance: 0.4,
    asks: true,
    put: (manager, dice) =>
      Object.assign(manager, {
        internal_address_config: {
          cidr_ranges: Array.from({ length: dice.between(1, 2) }, () => dice.one(CIDRS)),
          ...(dice.chance(0.2) ? { unix_sockets: true } : {}),
        },
      }),
  },
  {
    name: "forward_client_cert_details",
    chance: 0.3,
    put: (manager, dice) =>
      Object.assign(manager, {
        forward_client_cert_details: dice.one([
          "SANITIZE",
          "FORWARD_ONLY",
          "APPEND_FORWARD",
          "SANITIZE_SET",
          "ALWAYS_FORWARD_ONLY",
        ]),
        set_current_client_cert_details: { uri: true },
      }),
  },
];

type Speaking = Pick<Spec, "manager" | "routes" | "router">;

const suppress = ({ router }: Speaking) => void Object.assign(router ?? {}, { suppress_envoy_headers: true });

/** At least one of them asks. */
function putOwn(spec: Speaking, dice: Dice): void {
  const asking = dice.one(OWN.filter(({ asks }) => asks));
  for (const part of OWN) if (dice.chance(part.chance) || part === asking) part.put(spec.manager, dice);
  if (dice.chance(0.2)) suppress(spec);
  for (const host of spec.routes.virtual_hosts as (VirtualHostSpec & Json)[]) {
    if (dice.chance(0.3)) host.include_request_attempt_count ??= true;
    if (dice.chance(0.3)) host.include_attempt_count_in_response ??= true;
    for (const route of host.routes) putTimeouts(route.route as Json | undefined, dice);
  }
}

/** Where there are none: far above what a request takes, so that only what is said of them makes a difference. */
function putTimeouts(action: Json | undefined, dice: Dice): void {
  if (action === undefined || dice.chance(0.6)) return;
  action.timeout ??= dice.one(["0s", "7s", "60s"]);
  if (dice.chance(0.5)) action.retry_policy ??= { per_try_timeout: dice.one(["5s", "8s"]) };
}

const IPS = [
  "10.1.2.3",
  "192.0.2.7",
  "127.0.0.1",
  "::1",
  "2001:DB8::1",
  "::ffff:10.1.2.3",
  "10.9.9.9:80",
  "[::1]",
  "x",
];
const UUID = "aaaaaaaa-bbbb-9ccc-8ddd-eeeeeeeeeeee";

const someIps = (dice: Dice): string => {
  const list = Array.from({ length: dice.between(1, 3) }, () => dice.one(IPS)).join(dice.one([",", ", ", " , "]));
  return dice.chance(0.85) ? list : dice.one(["", ",", `${list},`, `,${list}`, ` ${list} `, "10.1.2.3,,"]);
};

/** What a request may carry of them, by name. */
const CARRIED: { readonly [name: string]: (dice: Dice) => string } = {
  "x-forwarded-for": someIps,
  "X-Forwarded-Proto": (dice) => dice.one(["https", "http", "HTTPS", "ws", ""]),
  "x-forwarded-port": (dice) => dice.one(["8443", ""]),
  "x-forwarded-host": () => "f.test",
  "x-forwarded-client-cert": () => "By=a",
  "x-request-id": (dice) => dice.one([UUID, UUID.replace("9", "4"), "an id", "", "x".repeat(36)]),
  via: () => "1.0 client",
  te: (dice) => dice.one(["trailers", "gzip", "gzip, trailers", "Trailers"]),
  "user-agent": (dice) => dice.one(["agent", ""]),
  referer: (dice) =>
    dice.one([
      "http://a.test/b?c",
      "https://u@a.test/",
      "/b",
      "a:b",
      "//c",
      "http://a_b/",
      "x://a:80",
      "http://a/#b",
      "",
    ]),
  "x-envoy-internal": (dice) => dice.one(["true", "false"]),
  "x-envoy-external-address": () => "10.0.0.1",
  "x-envoy-original-path": () => "/original",
  "x-envoy-original-host": () => "original.test",
  "x-envoy-attempt-count": () => "9",
  "x-envoy-expected-rq-timeout-ms": () => "77",
  "x-envoy-upstream-rq-timeout-ms": (dice) => dice.one(["9000", "0", "x"]),
  "x-envoy-upstream-rq-per-try-timeout-ms": (dice) => dice.one(["6000", "20000"]),
  "x-envoy-upstream-rq-timeout-alt-response": () => "1",
  "x-envoy-retry-on": () => "5xx",
  "x-envoy-retry-grpc-on": () => "internal",
  "x-envoy-max-retries": () => "0",
  "x-envoy-retriable-status-codes": () => "599",
  "x-envoy-retriable-header-names": () => "x-none",
  "x-envoy-force-trace": () => "1",
  "x-envoy-ip-tags": () => "tag",
  "x-envoy-original-url": () => "http://a",
  "x-envoy-decorator-operation": () => "operation",
  "x-envoy-downstream-service-cluster": () => "some-cluster",
  "x-envoy-downstream-service-node": () => "some-node",
  "x-envoy-upstream-alt-stat-name": () => "alt",
  "x-envoy-upstream-stream-duration-ms": () => "5000",
  "x-envoy-is-timeout-retry": () => "true",
  "x-envoy-peer-metadata": () => "peer",
};

/** What a server may answer with, as `tries.ts` has it. */
const ANSWERED = [
  "server=server",
  "via=1.1-server",
  "x-request-id=of-the-server",
  "x-envoy-upstream-service-time=7",
  "x-envoy-attempt-count=8",
  "date=yesterday",
  "keep-alive=5",
  "proxy-connection=keep-alive",
];

function aimOwn(draft: Draft, dice: Dice): void {
  if (dice.chance(0.5) && !draft.headers.some(([name]) => name.toLowerCase() === "x-act")) {
    const fields = ANSWERED.filter(() => dice.chance(0.3));
    draft.headers.push(["x-act", `{nonce} ${["200", ...fields].join("+")}`]);
  }
  const names = Object.keys(CARRIED);
  for (let left = dice.between(1, 5); left > 0; left--) {
    const name = dice.one(dice.chance(0.5) ? names.slice(0, 6) : names);
    draft.headers.push([name, CARRIED[name]!(dice)]);
  }
}

export const OWN_HEADERS: OptionPart<Speaking> = {
  /* They go together, as what one asks for, all get. */
  name: "headers that Envoy sets itself",
  kernel: false,
  chance: 0.12,
  put: putOwn,
  aim: (_, draft, dice) => aimOwn(draft, dice),
};

export const OWN_LISTENER: readonly OptionPart<Speaking>[] = [
  OWN_HEADERS,
  { name: "suppress_envoy_headers", kernel: true, chance: 0.06, put: suppress },
];
