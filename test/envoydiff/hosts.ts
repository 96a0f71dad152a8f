import type { Dice } from "../dice.ts";
import { setHeader } from "./fields.ts";
import { aimActs, anyTries, someMirrors } from "./limits.ts";
import type { ActionPart, Json } from "./spec.ts";

/** Requests that get the name of their endpoint for a host, one try after the other. */

/** What an endpoint's name changes, and what tells of it. */
const TOLD = [":authority", "x-forwarded-host"];

const telling = (dice: Dice): Json => ({
  header: { key: "x-told", value: `%REQ(${dice.one(TOLD)})%` },
  ...(dice.chance(0.3) ? { append_action: "OVERWRITE_IF_EXISTS_OR_ADD" } : {}),
});

export const HOSTS_OF_ENDPOINTS: readonly ActionPart[] = [
  {
    name: "auto_host_rewrite",
    kernel: false,
    weight: 0.8,
    make(dice, clusters) {
      const { named, hashing, divided, limited, known } = clusters;
      const cluster = dice.one([named, named, named, () => hashing(), () => divided(false), limited, known])();
      const entry = { name: cluster, weight: 1, host_rewrite_literal: "entry.test" };
      return {
        route: {
          ...(dice.chance(0.1) ? { weighted_clusters: { clusters: [entry] } } : { cluster }),
          auto_host_rewrite: dice.chance(0.95),
          ...(dice.chance(0.5) ? { append_x_forwarded_host: dice.chance(0.9) } : {}),
          ...(dice.chance(0.3) ? { prefix_rewrite: dice.one(["/", "/new"]) } : {}),
          ...(dice.chance(0.4) ? { hash_policy: [{ header: { header_name: dice.one(TOLD) } }] } : {}),
          ...(dice.chance(0.4) ? { retry_policy: anyTries(dice) } : {}),
          ...(dice.chance(0.2) ? someMirrors(dice, clusters) : {}),
        },
        ...(dice.chance(0.6) ? { request_headers_to_add: [telling(dice)] } : {}),
        ...(dice.chance(0.6) ? { response_headers_to_add: [telling(dice)] } : {}),
      };
    },
    aim(_, draft, dice) {
      if (dice.chance(0.6)) aimActs(draft, dice);
      if (dice.chance(0.3)) draft.headers.push(["x-mirror", draft.quiet]);
      if (dice.chance(0.3))
        setHeader("x-forwarded-host", [dice.one(["", "e.test", draft.host ?? "", "a, b"])], draft, dice);
    },
  },
];
