import type { OwnHeaders } from "../model/config.ts";
import { readRanges } from "./chains.ts";
import type { Fields } from "./fields.ts";

const UUID_REQUEST_ID = "envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig";

/** `node` of the bootstrap, which `add_user_agent` speaks of. */
export interface Node {
  readonly id: string;
  readonly cluster: string;
}

/** What the options say, whether one of them asks or not. */
type Options = Omit<OwnHeaders, "askedBy">;

/**
 * The headers that Envoy sets itself, if an option asks for one: docs/decisions/0012 says which do and why.
 */
export function readOwnHeaders(manager: Fields, node: Node | undefined): { readonly own?: OwnHeaders } {
  const internal = manager.message("internal_address_config");
  const scheme = readScheme(manager);
  const makesId = manager.boolean("generate_request_id");
  const namesAgent = manager.boolean("add_user_agent") ?? false;
  /* Nothing reaches a listener by a Unix socket. */
  internal?.skip("unix_sockets");
  const options: Options = {
    isEdge: manager.boolean("use_remote_address") ?? false,
    trustedHops: manager.number("xff_num_trusted_hops") ?? 0,
    appendsClient: !(manager.boolean("skip_xff_append") ?? false),
    appendsPort: manager.boolean("append_x_forwarded_port") ?? false,
    via: manager.string("via"),
    server: manager.string("server_name") || "envoy",
    serverHeader: SERVER_HEADER[manager.oneOf("server_header_transformation", ...TRANSFORMATIONS)],
    makesRequestId: makesId ?? true,
    keepsRequestId: manager.boolean("preserve_external_request_id") ?? false,
    tellsRequestId: manager.boolean("always_set_request_id_in_response") ?? false,
    marksTrace: readRequestIdExtension(manager),
    ...(scheme.overwrite === undefined ? {} : { scheme: scheme.overwrite }),
    ...(namesAgent ? { userAgent: { cluster: node?.cluster ?? "", node: node?.id ?? "" } } : {}),
    internal: internal === undefined ? [] : readRanges(internal, "cidr_ranges"),
    keepsClientCertificate: manager.oneOf("forward_client_cert_details", ...CERTIFICATES) === "ALWAYS_FORWARD_ONLY",
  };
  /* They say what of a certificate is told, and no client of a listener has one. */
  manager.skip("set_current_client_cert_details");
  const asks: { readonly [option: string]: boolean } = {
    use_remote_address: options.isEdge,
    xff_num_trusted_hops: options.trustedHops > 0,
    skip_xff_append: !options.appendsClient,
    append_x_forwarded_port: options.appendsPort,
    via: options.via !== "",
    server_name: manager.string("server_name") !== "",
    server_header_transformation: options.serverHeader === "appendIfAbsent",
    generate_request_id: makesId === true,
    preserve_external_request_id: options.keepsRequestId,
    always_set_request_id_in_response: options.tellsRequestId,
    scheme_header_transformation: scheme.isWritten,
    add_user_agent: namesAgent,
    internal_address_config: internal !== undefined,
    forward_client_cert_details: options.keepsClientCertificate,
  };
  const askedBy = Object.keys(asks).find((option) => asks[option]);
  return askedBy === undefined ? {} : { own: { askedBy, ...options } };
}

const SERVER_HEADER = {
  OVERWRITE: "overwrite",
  APPEND_IF_ABSENT: "appendIfAbsent",
  PASS_THROUGH: "passThrough",
} as const;
const TRANSFORMATIONS = ["OVERWRITE", "APPEND_IF_ABSENT", "PASS_THROUGH"] as const;
const CERTIFICATES = ["SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY"] as const;

/** What it says of tracing counts only where something is traced. True: the id says whether its request is. */
function readRequestIdExtension(manager: Fields): boolean {
  const uuid = manager.message("request_id_extension")?.packed("typed_config", UUID_REQUEST_ID);
  uuid?.skip("use_request_id_for_trace_sampling");
  return uuid?.boolean("pack_trace_reason") ?? true;
}

function readScheme(manager: Fields): { readonly isWritten: boolean; readonly overwrite?: "http" | "https" } {
  const transformation = manager.message("scheme_header_transformation");
  if (transformation === undefined || transformation.isEmpty) return { isWritten: false };
  /* No server of HTTP/1.1 sees a scheme. */
  transformation.skip("match_upstream");
  const scheme = transformation.string("scheme_to_overwrite");
  return { isWritten: true, ...(scheme === "http" || scheme === "https" ? { overwrite: scheme } : {}) };
}
