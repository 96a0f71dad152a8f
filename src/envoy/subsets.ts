import type { SubsetFallback, SubsetSelector, Subsets } from "../model/config.ts";
import type { Metadata } from "../model/metadata.ts";
import type { Fields } from "./fields.ts";

/** Subsets of clusters, the metadata of endpoints that they go by, and the criteria of routes that ask for them. */

const LB = "envoy.lb";

/** What of a Metadata balancing goes by, whatever else stands there; undefined: nothing. */
export function readMetadata(owner: Fields, field: string): Metadata | undefined {
  const metadata = owner.message(field)?.structs("filter_metadata").get(LB);
  return metadata === undefined || Object.keys(metadata).length === 0 ? undefined : metadata;
}

/** `metadata_match` of an entry, laid over that of its route. */
export function readCriteria(entry: Fields, route?: Metadata): { criteria?: Metadata } {
  const own = readMetadata(entry, "metadata_match");
  const criteria = own === undefined ? route : { ...route, ...own };
  return criteria === undefined ? {} : { criteria };
}

/** Of `lb_subset_config`, or of a typed Subset, which alone knows `allow_redundant_keys`. */
export function readSubsets(config: Fields, isTyped: boolean): Subsets {
  const ignoresOtherKeys = isTyped && config.boolean("allow_redundant_keys");
  const selectors = config.messages("subset_selectors").flatMap(readSelector);
  const list = config.oneOf("metadata_fallback_policy", "METADATA_NO_FALLBACK", "FALLBACK_LIST") === "FALLBACK_LIST";
  return {
    // Those that ask for more come first, where others may be among what they ask for.
    selectors: ignoresOtherKeys ? selectors.toSorted((a, b) => b.keys.length - a.keys.length) : selectors,
    fallback: FALLBACKS[config.oneOf("fallback_policy", "NO_FALLBACK", "ANY_ENDPOINT", "DEFAULT_SUBSET")],
    defaultSubset: config.struct("default_subset") ?? {},
    ...flag("weighsLocalities", config.boolean("locality_weight_aware")),
    ...flag("scalesWeights", config.boolean("scale_locality_weight")),
    ...flag("panicsToAny", config.boolean("panic_mode_any")),
    ...flag("listAsAny", config.boolean("list_as_any")),
    ...flag("hasFallbackList", list),
    ...flag("ignoresOtherKeys", ignoresOtherKeys),
  };
}

const FALLBACKS = { NO_FALLBACK: "none", ANY_ENDPOINT: "any", DEFAULT_SUBSET: "default" } as const;

const flag = <Name extends keyof Subsets>(name: Name, value: boolean | undefined): { [name in Name]?: true } =>
  value ? ({ [name]: true } as { [name in Name]?: true }) : {};

const KEYS = "fallback_keys_subset";

/** The rules are those of Envoy's SubsetSelector; one without keys it leaves out, and so do we. */
function readSelector(selector: Fields): SubsetSelector[] {
  const keys = keysOf(selector, "keys");
  const fewer = keysOf(selector, KEYS);
  const isSingle = selector.boolean("single_host_per_subset") ?? false;
  const policy = selector.oneOf(
    "fallback_policy",
    "NOT_DEFINED",
    "NO_FALLBACK",
    "ANY_ENDPOINT",
    "DEFAULT_SUBSET",
    "KEYS_SUBSET",
  );
  if (keys.length === 0) return [];
  const other = fewer.find((key) => !keys.includes(key));
  if (policy !== "KEYS_SUBSET") {
    if (fewer.length > 0)
      selector.reject(KEYS, "has an effect with KEYS_SUBSET only", "remove it, or write fallback_policy: KEYS_SUBSET");
  } else if (fewer.length === 0) {
    selector.reject(KEYS, "is required", "KEYS_SUBSET looks again with some of the keys: say which");
  } else if (other !== undefined) {
    selector.reject(KEYS, `${JSON.stringify(other)} is none of the selector's keys`);
  } else if (fewer.length === keys.length) {
    selector.reject(KEYS, "holds all of the selector's keys", "leave one out");
  }
  const fallback: SubsetFallback | { readonly keys: readonly string[] } | undefined =
    policy === "KEYS_SUBSET" ? { keys: fewer } : policy === "NOT_DEFINED" ? undefined : FALLBACKS[policy];
  return [{ keys, ...(isSingle ? { isSingle } : {}), ...(fallback === undefined ? {} : { fallback }) }];
}

const keysOf = (selector: Fields, field: string): string[] =>
  [...new Set(selector.strings(field).map(({ text }) => text))].sort();
