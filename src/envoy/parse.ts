import type { DescMessage } from "@bufbuild/protobuf";
import { isMap, parseDocument } from "yaml";
import type { Address, Config, Listener, RouteConfig } from "../model/config.ts";
import type { Rejection, Result } from "../model/rejection.ts";
import { addressText } from "../tables/address.ts";
import { readAddress } from "./address.ts";
import { readCluster } from "./cluster.ts";
import { messageNamed } from "./descriptors.ts";
import { readLocality } from "./endpoints.ts";
import { Fields } from "./fields.ts";
import { isOutbound, readListener } from "./listener.ts";
import { mergeMessages } from "./merge.ts";
import type { Node } from "./own-headers.ts";
import { readText } from "./read.ts";
import { readRoutes } from "./routes.ts";
import { checkRules } from "./rules.ts";
import { readSources } from "./sockets.ts";
import { Report } from "./tree.ts";

/** What an Envoy bootstrap asks for. */
export interface Bootstrap {
  readonly config: Config;
  readonly admin?: { readonly address: Address };
  readonly node?: Node;
}

/**
 * An Envoy bootstrap in YAML or JSON, best as the bytes of its file. Whatever is wrong with it, or beyond what XLB can
 * do, is named with its place, all of it at once. `overlay` is the text of --config-yaml, laid over the first as Envoy
 * does.
 */
export function parseBootstrap(text: Text, fileName = "config", overlay?: string): Result<Bootstrap> {
  const above = overlay === undefined ? [] : [{ text: overlay, name: OVERLAY }];
  return parseMessage([{ text, name: fileName }, ...above], {
    desc: messageNamed("envoy.config.bootstrap.v3.Bootstrap"),
    least: "static_resources with listeners and clusters",
    read: readBootstrap,
  });
}

const OVERLAY = "--config-yaml";

/** A route configuration by itself; which clusters there are, nobody says then. */
export function parseRouteConfig(text: Text, fileName = "routes"): Result<RouteConfig> {
  return parseMessage([{ text, name: fileName }], {
    desc: messageNamed("envoy.config.route.v3.RouteConfiguration"),
    least: "virtual_hosts",
    read: (fields) => readRoutes(fields, undefined),
  });
}

/** Whether a text is a bootstrap rather than a route configuration, by the fields that it has. */
export function isBootstrap(text: Text): boolean {
  const { contents } = parseDocument(Buffer.from(text).toString(), { logLevel: "error" });
  const { fields } = messageNamed("envoy.config.bootstrap.v3.Bootstrap");
  return isMap(contents) && fields.some(({ name, jsonName }) => contents.has(name) || contents.has(jsonName));
}

type Text = string | Uint8Array;

/** What texts of one type are read for. */
export interface Reading<T> {
  readonly desc: DescMessage;
  /** What an empty text lacks. */
  readonly least: string;
  read(fields: Fields): T;
}

/** Each text is laid over those before it. */
export function parseMessage<T>(
  texts: readonly { readonly text: Text; readonly name: string }[],
  { desc, least, read }: Reading<T>,
): Result<T> {
  const report = new Report();
  const parts = texts.map(({ text, name }) => readText(text, name, desc, report, least));
  const message = parts.map((part) => part.message).reduce(mergeMessages);
  checkRules(message, report);
  const fields = new Fields(message, report);
  const value = read(fields);
  fields.refuseRest();
  const idle = report.idleFields();
  if (report.empty) return { ok: true, value, ...(idle.length === 0 ? {} : { idle }) };
  return { ok: false, rejections: report.rejections(parts.map((part) => part.source)) };
}

/** One line for each: `file:line:column: path: message (what to do)`. */
export function formatRejections(rejections: readonly Rejection[], fileName: string): string[] {
  return rejections.map(({ file, line, column, path, message, mend }) => {
    const place = [file ?? fileName, line, column].filter((part) => part !== undefined).join(":");
    return `${place}: ${path === "" ? "" : `${path}: `}${message}${mend === undefined ? "" : ` (${mend})`}`;
  });
}

function readBootstrap(bootstrap: Fields): Bootstrap {
  const admin = bootstrap.message("admin");
  const node = bootstrap.message("node");
  const locality = readLocality(node?.message("locality"));
  // What else a node says is for control planes.
  node?.skipRest();
  const names = node === undefined ? undefined : { id: node.string("id"), cluster: node.string("cluster") };
  const manager = bootstrap.message("cluster_manager");
  const resources = readResources(bootstrap.message("static_resources"), names, readSources(manager));
  const local = readLocal(manager, resources);
  return {
    config: local === undefined ? resources : { ...resources, local: { cluster: local, locality } },
    ...(admin?.has("address") ? { admin: { address: readAddress(admin) } } : {}),
    ...(names === undefined ? {} : { node: names }),
  };
}

/** The cluster that XLB is in. */
function readLocal(manager: Fields | undefined, { clusters }: Config): string | undefined {
  const name = manager?.string("local_cluster_name") ?? "";
  if (name === "") return undefined;
  if (!clusters.some((cluster) => cluster.name === name))
    manager?.reject("local_cluster_name", `there is no cluster ${JSON.stringify(name)}`, "define it");
  return name;
}

function readResources(resources: Fields | undefined, node: Node | undefined, sources: readonly string[]): Config {
  const clusters = (resources?.messages("clusters") ?? []).map((fields) => ({
    fields,
    ...readCluster(fields, sources),
  }));
  const known = new Set(clusters.map((cluster) => cluster.name));
  const listeners = (resources?.messages("listeners") ?? []).filter(isOutbound).map((fields) => ({
    fields,
    ...readListener(fields, known, node),
  }));
  refuseTwins(clusters, "name", (cluster) => cluster.name);
  refuseTwins(listeners, "name", (listener) => listener.name);
  refuseTwins(listeners, "address", ({ address }) => (address.ip === "" ? "" : addressText(address)));
  refuseSharedAddresses(listeners);
  for (const { fields } of listeners.filter(({ takesRest }) => takesRest).slice(1))
    fields.reject("use_original_dst", "another listener takes the rest already", "keep one of them");
  return { listeners: listeners.map(withoutFields), clusters: clusters.map(withoutFields) };
}

/** Refuses additional addresses that another listener has, or the same one already. */
function refuseSharedAddresses(listeners: readonly (Listener & { readonly fields: Fields })[]): void {
  const taken = new Set(listeners.map(({ address }) => addressText(address)));
  for (const { fields, more = [] } of listeners) {
    for (const text of more.filter(({ ip }) => ip !== "").map(addressText)) {
      if (taken.has(text)) fields.reject("additional_addresses", `${text} is taken already`, "keep one of the two");
      taken.add(text);
    }
  }
}

/** Refuses each resource whose key another one before it has; an empty key was rejected already. */
function refuseTwins<T extends { fields: Fields; name: string }>(
  resources: readonly T[],
  field: string,
  keyOf: (resource: T) => string,
): void {
  const owners = new Map<string, T>();
  for (const resource of resources) {
    const key = keyOf(resource);
    const owner = owners.get(key);
    if (key === "") continue;
    if (owner === undefined) owners.set(key, resource);
    else
      resource.fields.reject(
        field,
        `${JSON.stringify(key)} is the ${field} of ${owner.fields.place.path} too`,
        "change one of the two",
      );
  }
}

function withoutFields<T extends { fields: Fields }>({ fields: _, ...rest }: T): Omit<T, "fields"> {
  return rest;
}
