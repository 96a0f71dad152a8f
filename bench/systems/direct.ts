import type { Cgroup } from "../party.ts";
import type { Backends, System } from "./system.ts";

export function direct(client: Cgroup, backends: Backends): System {
  return {
    name: "direct",
    client,
    origin: (topology) => `http://${backends.address[topology].ip}:${backends.address[topology].port}`,
    parties: (topology) => [client, backends.cgroup[topology]],
  };
}
