import type { Dice } from "../dice.ts";
import { someEdits } from "./edits.ts";
import { anyPath, patternFor, setHeader } from "./fields.ts";
import { HASHING } from "./hashing.ts";
import { HOSTS_OF_ENDPOINTS } from "./hosts.ts";
import { LIMITED } from "./limits.ts";
import type { ActionPart, Clusters, Json } from "./spec.ts";
import { SUBSETS } from "./subsets.ts";

/** What a route may do: the third list of fields that the comparison knows, beside those of `fields.ts`. */

const timeout = (dice: Dice) => (dice.chance(0.2) ? { timeout: dice.one(["0s", "5s", "10.5s"]) } : {});

function weighted(dice: Dice, { fresh, known }: Clusters, more: () => Json): Json {
  const clusters = Array.from({ length: dice.between(1, 3) }, (_, i) => ({
    name: dice.chance(0.7) ? fresh() : known(),
    weight: i === 0 ? dice.between(1, 5) : dice.between(0, 3),
    ...more(),
  }));
  const total = clusters.reduce((sum, { weight }) => sum + weight, 0);
  return { clusters, ...(dice.chance(0.2) ? { total_weight: total } : {}) };
}

/** A new path in the place of an old one; what comes out is a path always. */
const pathRewrite = (dice: Dice): Json =>
  dice.chance(0.5)
    ? { prefix_rewrite: dice.one(["/", "/new", "/new/", anyPath(dice), "/a?b=c", "/%41"]) }
    : {
        regex_rewrite: {
          pattern: { regex: dice.one(["^/", "/", "a", "(/)([^/]*)", "[a-z]+", "^/[^/]+", patternFor("/a", dice)]) },
          substitution: dice.one(["/", "/x", "/\\0", "", "-\\0-", "\\\\"]),
        },
      };

const HOSTS = ["new.test", "New.Test:8080", "[::1]"];

/** What is no host name goes on as well. */
const pathToHost = (dice: Dice): Json => ({
  pattern: { regex: dice.one(["^/([^/]*).*$", "/", "[^a-z]+", ".*", "b*", "^/a/(.*)$", patternFor("/a", dice)]) },
  substitution: dice.one(["\\0.test", "", "x", "-\\0"]),
});

const hostRewrite = (dice: Dice): Json => ({
  ...dice.one([
    { host_rewrite_literal: dice.one(HOSTS) },
    { host_rewrite_header: dice.one(["x-a", "x-none", "cookie"]) },
    { host_rewrite_path_regex: pathToHost(dice) },
  ]),
  ...(dice.chance(0.4) ? { append_x_forwarded_host: dice.chance(0.8) } : {}),
});

function redirect(dice: Dice): Json {
  const path = dice.one<Json>([
    {},
    { path_redirect: dice.one(["/new", "new", "/new?x=y", anyPath(dice)]) },
    pathRewrite(dice),
  ]);
  const scheme = dice.one<Json>([
    {},
    {},
    { https_redirect: true },
    { scheme_redirect: dice.one(["https", "http", "ftp"]) },
  ]);
  return {
    ...path,
    ...scheme,
    ...(dice.chance(0.4) ? { host_redirect: dice.one(["new.test", "New.test:81", "[::1]"]) } : {}),
    ...(dice.chance(0.3) ? { port_redirect: dice.one([80, 443, 8080]) } : {}),
    ...(dice.chance(0.4) ? { strip_query: dice.chance(0.8) } : {}),
    ...(dice.chance(0.5)
      ? { response_code: dice.one(["FOUND", "SEE_OTHER", "TEMPORARY_REDIRECT", "PERMANENT_REDIRECT"]) }
      : {}),
  };
}

const direct = (dice: Dice): Json => ({
  status: dice.one([200, 200, 201, 204, 302, 304, 404, 418, 503, 599]),
  ...(dice.chance(0.7)
    ? {
        body: dice.chance(0.2)
          ? { inline_bytes: Buffer.from("some bytes").toString("base64") }
          : { inline_string: dice.one(["a body", "\u00e9", "{}", "x".repeat(4_000)]) },
      }
    : {}),
});

export const ACTIONS: readonly ActionPart[] = [
  {
    name: "route.cluster",
    kernel: true,
    weight: 6,
    make: (dice, { fresh, known }) => ({ route: { cluster: dice.chance(0.85) ? fresh() : known(), ...timeout(dice) } }),
  },
  {
    name: "route.weighted_clusters",
    kernel: true,
    weight: 3,
    make: (dice, clusters) => ({
      route: { weighted_clusters: weighted(dice, clusters, () => ({})), ...timeout(dice) },
    }),
  },
  {
    name: "a cluster that is not there",
    kernel: true,
    weight: 0.3,
    make: (dice) => ({
      route: {
        cluster: "nowhere",
        ...(dice.chance(0.5)
          ? { cluster_not_found_response_code: dice.one(["NOT_FOUND", "INTERNAL_SERVER_ERROR", "SERVICE_UNAVAILABLE"]) }
          : {}),
      },
    }),
  },
  {
    name: "route.cluster_header",
    kernel: false,
    weight: 0.5,
    make: (dice) => ({ route: { cluster_header: dice.one(["x-a", "X-Cluster"]) } }),
    aim({ route }, draft, dice) {
      const { cluster_header } = route as { cluster_header: string };
      setHeader(
        cluster_header,
        dice.one([["c0-0"], [draft.cluster], [draft.cluster], [], [""], [draft.cluster, "x"]]),
        draft,
        dice,
      );
    },
  },
  {
    name: "weighted clusters by header",
    kernel: false,
    weight: 0.3,
    make: (dice, { fresh }) => ({
      route: {
        weighted_clusters: {
          clusters: [
            { cluster_header: "x-cluster", weight: dice.between(1, 3) },
            { name: fresh(), weight: dice.between(0, 2) },
          ],
        },
      },
    }),
    aim(_, draft, dice) {
      setHeader("x-cluster", dice.one([[draft.cluster], [draft.cluster], [], ["nowhere"]]), draft, dice);
    },
  },
  {
    name: "weighted clusters with edits",
    kernel: false,
    weight: 0.8,
    make(dice, clusters) {
      const more = () => ({
        ...(dice.chance(0.6) ? someEdits(dice) : {}),
        ...(dice.chance(0.4) ? { host_rewrite_literal: dice.one(HOSTS) } : {}),
      });
      const whole = weighted(dice, clusters, more);
      /* One at least, so that the slow path has it for sure. */
      const [first, ...others] = whole.clusters as Json[];
      return { route: { weighted_clusters: { ...whole, clusters: [{ ...first, ...someEdits(dice) }, ...others] } } };
    },
  },
  {
    name: "path rewrites",
    kernel: false,
    weight: 1.2,
    make: (dice, { fresh }) => ({ route: { cluster: fresh(), ...pathRewrite(dice) } }),
  },
  {
    name: "host rewrites",
    kernel: false,
    weight: 0.8,
    make: (dice, { fresh }) => ({
      route: { cluster: fresh(), ...hostRewrite(dice), ...(dice.chance(0.3) ? pathRewrite(dice) : {}) },
    }),
    aim(_, draft, dice) {
      if (dice.chance(0.3))
        setHeader("x-forwarded-host", [dice.one(["", "a.test", draft.host ?? "", "a, b"])], draft, dice);
    },
  },
  {
    name: "edits of a route",
    kernel: false,
    weight: 1.5,
    make: (dice, { fresh }) => ({ route: { cluster: fresh() }, ...someEdits(dice) }),
  },
  {
    name: "redirect",
    kernel: false,
    weight: 1.2,
    make: (dice) => ({ redirect: redirect(dice), ...(dice.chance(0.2) ? someEdits(dice) : {}) }),
  },
  {
    name: "direct_response",
    kernel: false,
    weight: 0.8,
    make: (dice) => ({ direct_response: direct(dice), ...(dice.chance(0.3) ? someEdits(dice) : {}) }),
  },
  ...HASHING,
  ...HOSTS_OF_ENDPOINTS,
  ...SUBSETS,
  ...LIMITED,
];
