import type { Address, Cluster, Endpoint, Fraction, Group, Health, Locality } from "../model/config.ts";
import { addressText } from "../tables/address.ts";
import { readAddress, readNamedAddress } from "./address.ts";
import type { Fields } from "./fields.ts";
import { hashKeyOf } from "./hashing.ts";
import { readShare } from "./matches.ts";
import { readMetadata } from "./subsets.ts";

const MAX_WEIGHT_SUM = 2 ** 32 - 1;

type Assignment = Pick<Cluster, "endpoints" | "groups" | "overprovisioning" | "weighsHealth" | "drop">;

/** `load_assignment`: a cluster's endpoints, with what is said of them together. `names`: addresses may be names. */
export function readAssignment(cluster: Fields, names: boolean): Assignment {
  const assignment = cluster.message("load_assignment");
  assignment?.skip("cluster_name");
  const policy = assignment?.message("policy");
  const overprovisioning = policy?.number("overprovisioning_factor");
  const drop = policy && readDrop(policy);
  const groups = new Groups();
  const owners = new Set<string>();
  const endpoints = (assignment?.messages("endpoints") ?? []).flatMap((entry) => {
    const group = groups.add(entry);
    const members = entry.messages("lb_endpoints").map((endpoint) => readEndpoint(endpoint, owners, names));
    const sum = members.reduce((sum, { weight }) => sum + weight, 0);
    if (sum > MAX_WEIGHT_SUM) entry.reject("lb_endpoints", `the weights add up to ${sum}, more than ${MAX_WEIGHT_SUM}`);
    return members.map((endpoint): Endpoint => (group === 0 ? endpoint : { ...endpoint, group }));
  });
  return {
    endpoints,
    ...groups.told(),
    ...(overprovisioning === undefined ? {} : { overprovisioning }),
    ...(policy?.boolean("weighted_priority_health") ? { weighsHealth: true } : {}),
    ...(drop === undefined ? {} : { drop }),
  };
}

/** As in Envoy one category at most. */
function readDrop(policy: Fields): Fraction | undefined {
  const [first, second] = policy.messages("drop_overloads");
  second?.rejectWhole("only one category can be dropped", "remove the others");
  first?.skip("category");
  const drop = first && readShare(first.message("drop_percentage"));
  if (drop !== undefined && drop.share > drop.outOf) first?.reject("drop_percentage", "is more than all");
  return drop === undefined || drop.share === 0 ? undefined : drop;
}

/** Localities by priority: entries of the same are one, and the last weight that is written holds. */
class Groups {
  readonly #groups: Group[] = [];
  readonly #sums = new Map<number, number>();

  /** Its index. */
  add(entry: Fields): number {
    const priority = entry.number("priority") ?? 0;
    const locality = readLocality(entry.message("locality"));
    const weight = entry.number("load_balancing_weight");
    const sum = (this.#sums.get(priority) ?? 0) + (weight ?? 0);
    this.#sums.set(priority, sum);
    if (sum > MAX_WEIGHT_SUM)
      entry.reject("load_balancing_weight", `the weights of priority ${priority} are over ${MAX_WEIGHT_SUM} together`);
    const at = this.#groups.findIndex((group) => group.priority === priority && isSame(group.locality, locality));
    if (at < 0) return this.#groups.push({ priority, locality, weight: weight ?? 0 }) - 1;
    if (weight !== undefined) this.#groups[at] = { priority, locality, weight };
    return at;
  }

  told(): { groups?: readonly Group[] } {
    const [first, second] = this.#groups;
    const isPlain = first === undefined || (isSame(first.locality, NOWHERE) && first.priority === 0);
    return isPlain && second === undefined ? {} : { groups: this.#groups };
  }
}

const NOWHERE: Locality = { region: "", zone: "", subZone: "" };

const isSame = (a: Locality, b: Locality) => a.region === b.region && a.zone === b.zone && a.subZone === b.subZone;

export function readLocality(locality: Fields | undefined): Locality {
  if (locality === undefined) return NOWHERE;
  return {
    region: locality.string("region"),
    zone: locality.string("zone"),
    subZone: locality.string("sub_zone"),
  };
}

const HEALTH: { readonly [status: string]: Health } = {
  UNHEALTHY: "unhealthy",
  DRAINING: "draining",
  TIMEOUT: "timeout",
  DEGRADED: "degraded",
};

const NO_PLACE = { address: { ip: "", port: 0 }, hostname: "" };

function readEndpoint(lbEndpoint: Fields, owners: Set<string>, names: boolean): Endpoint {
  const endpoint = lbEndpoint.message("endpoint");
  if (lbEndpoint.lacks("endpoint") && !lbEndpoint.has("endpoint_name")) lbEndpoint.reject("endpoint", "is required");
  const { address, hostname } = endpoint === undefined ? NO_PLACE : readPlace(endpoint, names);
  const text = addressText(address);
  if (address.ip !== "" && owners.has(text)) {
    endpoint?.reject("address", `${text} is in this cluster already`, "write it once, with a load_balancing_weight");
  }
  owners.add(text);
  const metadata = readMetadata(lbEndpoint, "metadata");
  const hashKey = hashKeyOf(metadata);
  const status = lbEndpoint.oneOf(
    "health_status",
    "UNKNOWN",
    "HEALTHY",
    "UNHEALTHY",
    "DRAINING",
    "TIMEOUT",
    "DEGRADED",
  );
  return {
    address,
    weight: lbEndpoint.number("load_balancing_weight") ?? 1,
    health: HEALTH[status] ?? "healthy",
    ...(hashKey === undefined ? {} : { hashKey }),
    ...(hostname === "" ? {} : { hostname }),
    ...(metadata === undefined ? {} : { metadata }),
  };
}

/** To Envoy an endpoint of DNS without a `hostname` has the name that is asked for, as it is written. */
function readPlace(endpoint: Fields, names: boolean): { readonly address: Address; readonly hostname: string } {
  const hostname = endpoint.string("hostname");
  if (/\p{Cc}/u.test(hostname))
    endpoint.reject("hostname", "must not hold a control character: it goes into the header Host");
  if (!names) return { address: readAddress(endpoint), hostname };
  const { address, written } = readNamedAddress(endpoint);
  return { address, hostname: hostname || written };
}
