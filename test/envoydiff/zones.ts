import { Dice } from "../dice.ts";
import type { ClusterSpec, EndpointSpec, Json, LocalSpec } from "./spec.ts";

/** The cluster that the balancer is in, and clusters whose endpoints are near to it or not. */

/** As each reader of `bootstrap` calls it. */
export const LOCAL = "local";

const somePlace = (dice: Dice): Json => ({
  ...(dice.chance(0.1) ? { region: "r" } : {}),
  zone: dice.one(["a", "a", "bb"]),
  ...(dice.chance(0.1) ? { sub_zone: "s" } : {}),
});

/** A bootstrap has one: all configurations of a start agree on it. */
export function someLocal(seed: number, start: number): { readonly local?: LocalSpec } {
  const dice = new Dice(seed, start, 3);
  if (!dice.chance(0.65)) return {};
  const peers = Array.from({ length: dice.between(1, 5) }, () => ({
    place: somePlace(dice),
    ...(dice.chance(0.15) ? { health_status: "UNHEALTHY" } : {}),
  }));
  return { local: { at: somePlace(dice), peers } };
}

/** Zone-aware routing for a cluster, in words that each policy takes, and endpoints in zones. */
export function spread(
  { options, endpoints }: Omit<ClusterSpec, "endpoints"> & { readonly endpoints: EndpointSpec[] },
  dice: Dice,
): void {
  for (const endpoint of endpoints) Object.assign(endpoint, somePlace(dice));
  const zone_aware_lb_config: Json = {
    ...(dice.chance(0.8) ? { min_cluster_size: dice.between(1, 4) } : {}),
    ...(dice.chance(0.3) ? { routing_enabled: { value: dice.one([0, 50, 100]) } } : {}),
    ...(dice.chance(0.3) ? { fail_traffic_on_panic: dice.chance(0.9) } : {}),
  };
  const {
    locality_weighted_lb_config: _,
    zone_aware_lb_config: __,
    ...common
  } = (options.common_lb_config ?? {}) as Json;
  const typed = options.load_balancing_policy as TypedPolicy | undefined;
  options.common_lb_config = typed || dice.chance(0.1) ? common : { ...common, zone_aware_lb_config };
  for (const { typed_extension_config } of typed?.policies ?? [])
    typed_extension_config.typed_config.locality_lb_config = { zone_aware_lb_config };
}

interface TypedPolicy {
  readonly policies: readonly { readonly typed_extension_config: { readonly typed_config: Json } }[];
}
