import type { Upgrades } from "../model/config.ts";
import type { Fields } from "./fields.ts";

/** These open a tunnel to a place that the client names, instead of changing the protocol with a backend. */
const TUNNELS = ["connect", "connect-udp", "connect-ip"];

/** `upgrade_configs` of the HttpConnectionManager or of a route: each protocol once. */
export function readUpgrades(owner: Fields): Upgrades {
  const found = new Map<string, boolean>();
  for (const upgrade of owner.messages("upgrade_configs")) {
    const written = upgrade.string("upgrade_type");
    const type = written.toLowerCase();
    const allowed = upgrade.boolean("enabled") ?? true;
    if (upgrade.isBroken("upgrade_type")) continue;
    if (type === "") upgrade.reject("upgrade_type", "is required", "name the protocol, such as websocket");
    else if (TUNNELS.includes(type)) upgrade.reject("upgrade_type", `${written} is not supported yet`, "remove it");
    else if (found.has(type))
      upgrade.reject("upgrade_type", `${JSON.stringify(written)} was given before`, "keep one of the two");
    found.set(type, allowed);
  }
  const those = (wanted: boolean) => [...found].filter(([, allowed]) => allowed === wanted).map(([type]) => type);
  return { allowed: those(true), denied: those(false) };
}
