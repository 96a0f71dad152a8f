/**
 * Configurations that differ in the number of their rules only: what the bench measures, and what test/compile counts
 * the steps of. A rule is told from the others by a text of as many bytes, however many there are.
 */

export const MIXES = ["prefix", "exact", "regex", "regex-inner", "header", "query", "mixed", "hosts"] as const;
export type Mix = (typeof MIXES)[number];
export const ROUTES: readonly number[] = [1, 10, 100, 1_000, 10_000];

interface Rule {
  readonly match: object;
  readonly host?: string;
}

export const idOf = (i: number) => `svc-${String(i).padStart(5, "0")}`;

/** The rule number `i` of a mix. */
function rule(mix: Mix, i: number): Rule {
  const id = idOf(i);
  const headers = [{ name: "x-route", string_match: { exact: id } }];
  const query_parameters = [{ name: "route", string_match: { exact: id } }];
  switch (mix) {
    case "prefix":
      return { match: { prefix: `/match/${id}/` } };
    case "exact":
      return { match: { path: `/match/${id}/v1/item` } };
    case "regex":
      return { match: { safe_regex: { regex: `/match/${id}/v[0-9]+/.*` } } };
    case "regex-inner":
      return { match: { safe_regex: { regex: `/[a-z]+/${id}(/.*)?` } } };
    case "header":
      return { match: { prefix: "/match/", headers } };
    case "query":
      return { match: { prefix: "/match/", query_parameters } };
    case "hosts":
      return { match: { prefix: "/" }, host: `${id}.example` };
    case "mixed":
      /* The only one of one asks for all that the others ask for. */
      if (i % 5 === 0) return { match: { prefix: `/match/${id}/`, headers, query_parameters } };
      return rule((["header", "exact", "regex", "query"] as const)[(i % 5) - 1]!, i);
    default:
      return mix satisfies never;
  }
}

/** Virtual hosts with so many rules of a mix, all of which lead to the cluster. */
export function virtualHosts(mix: Mix, routes: number, cluster: string): object[] {
  const rules = Array.from({ length: routes }, (_, i) => rule(mix, i));
  const route = { cluster };
  return mix === "hosts"
    ? rules.map(({ match, host }) => ({ name: host, domains: [host], routes: [{ match, route }] }))
    : [{ name: "all", domains: ["*"], routes: rules.map(({ match }) => ({ match, route })) }];
}
