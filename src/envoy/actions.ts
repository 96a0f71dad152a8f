import type {
  DirectResponse,
  ForwardAction,
  HostRewrite,
  PathMatch,
  PathRewrite,
  RedirectAction,
  WeightedCluster,
} from "../model/config.ts";
import { readEdits } from "./edits.ts";
import type { Fields } from "./fields.ts";
import { readHashPolicies } from "./hashing.ts";
import { readHeaderName, readRegexRewrite } from "./matches.ts";
import { nearest } from "./spelling.ts";
import { readCriteria } from "./subsets.ts";
import { readUpgrades } from "./upgrades.ts";
import { parseUriRewrite, parseUriTemplate } from "./uri-template.ts";

const DEFAULT_TIMEOUT_MS = 15_000;
const MAX_WEIGHT_SUM = 2 ** 32 - 1;

/** Missing: routes may lead to clusters that are not there, and answer 503 then. */
export type KnownClusters = ReadonlySet<string> | undefined;

/** Stands for an action that was rejected. */
export const NO_ACTION: ForwardAction = { kind: "forward", clusters: [], timeoutMs: 0 };

const NOT_FOUND = { SERVICE_UNAVAILABLE: undefined, NOT_FOUND: 404, INTERNAL_SERVER_ERROR: 500 } as const;

/** `path` is what the route matches. */
export function readForward(action: Fields, path: PathMatch, known: KnownClusters): ForwardAction {
  const weighted = action.message("weighted_clusters");
  const own = readCriteria(action);
  const notFound = action.oneOf(
    "cluster_not_found_response_code",
    "SERVICE_UNAVAILABLE",
    "NOT_FOUND",
    "INTERNAL_SERVER_ERROR",
  );
  return {
    kind: "forward",
    clusters: weighted === undefined ? readSingleCluster(action, known, own) : readWeighted(weighted, known, own),
    timeoutMs: action.milliseconds("timeout") ?? DEFAULT_TIMEOUT_MS,
    notFoundStatus: NOT_FOUND[notFound],
    path: readOneRewrite(action, path),
    host: readHostRewrite(action),
    keepsForwardedHost: action.boolean("append_x_forwarded_host") || undefined,
    hashPolicies: readHashPolicies(action),
    clusterByHash: weighted?.boolean("use_hash_policy") || undefined,
    upgrades: action.lacks("upgrade_configs") ? undefined : readUpgrades(action),
  };
}

type Criteria = Pick<WeightedCluster, "criteria">;

function readSingleCluster(action: Fields, known: KnownClusters, own: Criteria): WeightedCluster[] {
  if (action.has("cluster_header")) return [{ header: readHeaderName(action, "cluster_header"), weight: 1, ...own }];
  return action.has("cluster") ? [{ name: readClusterName(action, "cluster", known), weight: 1, ...own }] : [];
}

function readWeighted(weighted: Fields, known: KnownClusters, route: Criteria): WeightedCluster[] {
  let weightsAreRead = !weighted.isBroken("clusters");
  const clusters = weighted.messages("clusters").map((cluster) => {
    if (cluster.isBroken("weight")) weightsAreRead = false;
    return readEntry(cluster, known, route);
  });
  const sum = clusters.reduce((sum, cluster) => sum + cluster.weight, 0);
  if (clusters.length > 0 && sum === 0 && weightsAreRead)
    weighted.reject("clusters", "the weights add up to 0", "give one a weight");
  if (sum > MAX_WEIGHT_SUM) weighted.reject("clusters", `the weights add up to ${sum}, more than ${MAX_WEIGHT_SUM}`);
  const total = weighted.number("total_weight");
  if (total !== undefined && total !== sum && weightsAreRead) {
    weighted.reject("total_weight", `is ${total}, but the weights add up to ${sum}`, "remove total_weight");
  }
  return clusters;
}

function readEntry(cluster: Fields, known: KnownClusters, route: Criteria): WeightedCluster {
  if (!cluster.has("weight")) cluster.reject("weight", "is required");
  const name = readClusterName(cluster, "name", known);
  const [hasName, hasHeader] = [!cluster.lacks("name"), !cluster.lacks("cluster_header")];
  if (!hasName && !hasHeader) cluster.reject("name", "is required");
  if (hasName && hasHeader) cluster.reject("cluster_header", "cannot stand beside name", "keep one of the two");
  const entry = {
    weight: cluster.number("weight") ?? 0,
    host: cluster.string("host_rewrite_literal") || undefined,
    ...readCriteria(cluster, route.criteria),
    ...readEdits(cluster),
  };
  return hasHeader ? { header: readHeaderName(cluster, "cluster_header"), ...entry } : { name, ...entry };
}

function readClusterName(owner: Fields, field: string, known: KnownClusters): string {
  const name = owner.string(field);
  if (known === undefined || name === "" || known.has(name)) return name;
  const near = nearest(name, known);
  const mend =
    near === undefined ? "define it under static_resources.clusters" : `did you mean ${JSON.stringify(near)}?`;
  owner.reject(field, `no cluster has the name ${JSON.stringify(name)}`, mend);
  return name;
}

function readOneRewrite(action: Fields, path: PathMatch): PathRewrite | undefined {
  const byTemplate = readTemplateRewrite(action, path);
  const other = readPathRewrite(action);
  if (other !== undefined && action.has("path_rewrite_policy"))
    action.reject("path_rewrite_policy", "cannot stand beside another rewrite of the path", "keep one of the two");
  return other ?? byTemplate;
}

/** `prefix_rewrite` or `regex_rewrite`, of a route or of a redirect. */
function readPathRewrite(owner: Fields): PathRewrite | undefined {
  const prefix = owner.string("prefix_rewrite");
  checkPath(owner, "prefix_rewrite", prefix);
  const regex = owner.message("regex_rewrite");
  if (regex === undefined) return prefix === "" ? undefined : { kind: "prefix", value: prefix };
  if (prefix !== "") owner.reject("regex_rewrite", "cannot stand beside prefix_rewrite", "keep one of the two");
  checkPath(regex, "substitution", regex.string("substitution"));
  return readRegexRewrite(regex);
}

const TEMPLATE = "envoy.extensions.path.rewrite.uri_template.v3.UriTemplateRewriteConfig";

/** `path_rewrite_policy`: there is one, the URI template. What the route's own template matched is put in. */
function readTemplateRewrite(action: Fields, path: PathMatch): PathRewrite | undefined {
  const policy = action.message("path_rewrite_policy");
  policy?.skip("name");
  const config = policy?.has("typed_config") ? policy.packed("typed_config", TEMPLATE) : undefined;
  const rewrite = config?.string("path_template_rewrite") ?? "";
  if (config === undefined || rewrite === "") return undefined;
  const matched = path.kind === "regex" ? path.template : undefined;
  const template = matched === undefined ? undefined : parseUriTemplate(matched);
  if (!template?.ok) {
    action.reject("path_rewrite_policy", "rewrites what a path_match_policy matched", "match by a URI template");
    return undefined;
  }
  const parsed = parseUriRewrite(rewrite, template.value.names);
  if (parsed.ok) return { kind: "regex", pattern: `^${template.value.pattern}$`, substitution: parsed.value };
  config.reject("path_template_rewrite", parsed.problem);
  return undefined;
}

/** A space in a path would end it. */
function checkPath(owner: Fields, field: string, path: string): void {
  if (/[\s\p{Cc}]/u.test(path)) owner.reject(field, "must not hold white space: it becomes part of a path");
}

function readHostRewrite(action: Fields): HostRewrite | undefined {
  if (action.boolean("auto_host_rewrite")) return { kind: "endpoint" };
  const literal = action.string("host_rewrite_literal");
  if (literal !== "") return { kind: "literal", value: literal };
  const path = action.message("host_rewrite_path_regex");
  if (path !== undefined) return { kind: "path", rewrite: readRegexRewrite(path) };
  return action.lacks("host_rewrite_header")
    ? undefined
    : { kind: "header", name: readHeaderName(action, "host_rewrite_header") };
}

const REDIRECTS = {
  MOVED_PERMANENTLY: 301,
  FOUND: 302,
  SEE_OTHER: 303,
  TEMPORARY_REDIRECT: 307,
  PERMANENT_REDIRECT: 308,
} as const;

export function readRedirect(redirect: Fields): RedirectAction {
  const code = redirect.oneOf(
    "response_code",
    "MOVED_PERMANENTLY",
    "FOUND",
    "SEE_OTHER",
    "TEMPORARY_REDIRECT",
    "PERMANENT_REDIRECT",
  );
  const whole = redirect.string("path_redirect");
  const scheme = redirect.string("scheme_redirect") || (redirect.boolean("https_redirect") ? "https" : "");
  return {
    kind: "redirect",
    status: REDIRECTS[code],
    scheme: scheme || undefined,
    host: redirect.string("host_redirect") || undefined,
    port: redirect.number("port_redirect") || undefined,
    path: whole === "" ? readPathRewrite(redirect) : { kind: "whole", value: whole },
    stripQuery: redirect.boolean("strip_query") ?? false,
  };
}

export function readDirectResponse(direct: Fields, maxBody: number): DirectResponse {
  const source = direct.message("body");
  const text = source?.string("inline_string") ?? "";
  const bytes = source?.has("inline_bytes") ? Buffer.from(source.string("inline_bytes"), "base64") : Buffer.from(text);
  if (bytes.length > maxBody)
    direct.reject("body", `has ${bytes.length} bytes, more than max_direct_response_body_size_bytes (${maxBody})`);
  return { kind: "direct", status: direct.number("status") ?? 0, body: bytes.toString("latin1") };
}
