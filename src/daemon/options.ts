/** What `xlb run` was told. */
export interface RunOptions {
  readonly configPath?: string;
  readonly configYaml?: string;
  /** A word of pino's. */
  readonly logLevel: string;
  readonly datapath: "auto" | "kernel" | "userspace";
  /** cgroups to enrol, which must exist. */
  readonly cgroups: readonly string[];
  /** The same, but their sockets stay out of socket maps: the slow path alone balances them. */
  readonly userspaceCgroups: readonly string[];
  readonly adminSocket: string;
}
