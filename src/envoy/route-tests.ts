import { createFileRegistry, type DescMessage, fromJson } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import type { Rejection, Result } from "../model/rejection.ts";
import {
  ASPECTS,
  type Aspect,
  type HeaderExpectation,
  type HeaderField,
  type RouteTest,
  type TestedRequest,
} from "../model/route-test.ts";
import { descriptors } from "./descriptors.ts";
import type { Fields } from "./fields.ts";
import { DEPRECATED, readHeaderMatch } from "./matches.ts";
import { parseMessage } from "./parse.ts";

/** Test files of Envoy's router_check_tool (test/tools/router_check/validation.proto), YAML or JSON. */
export function parseRouteTests(text: string | Uint8Array, fileName = "tests"): Result<RouteTest[]> {
  if (PROTOBUF_TEXT.test(fileName)) return { ok: false, rejections: [NOT_YAML] };
  return parseMessage([{ text, name: fileName }], { desc: schema(), least: "tests", read: readTests });
}

const PROTOBUF_TEXT = /\.(?:pb|pb_text|textproto|pbtxt)$/;
const NOT_YAML: Rejection = {
  path: "",
  message: "protobuf's own formats are not supported yet",
  mend: "write the tests in YAML or JSON",
};

/** The messages of a test file; the rest of what they hold is Envoy's API. */
const MESSAGES: { readonly [message: string]: { readonly [field: string]: string } } = {
  Validation: { tests: "repeated ValidationItem" },
  ValidationItem: { test_name: "string", input: "ValidationInput", validate: "ValidationAssert" },
  ValidationInput: {
    authority: "string",
    path: "string",
    method: "string",
    random_value: "uint64",
    ssl: "bool",
    internal: "bool",
    runtime: "string",
    additional_request_headers: "repeated .envoy.config.core.v3.HeaderValue",
    additional_response_headers: "repeated .envoy.config.core.v3.HeaderValue",
  },
  ValidationAssert: {
    cluster_name: ".google.protobuf.StringValue",
    virtual_cluster_name: ".google.protobuf.StringValue",
    virtual_host_name: ".google.protobuf.StringValue",
    host_rewrite: ".google.protobuf.StringValue",
    path_rewrite: ".google.protobuf.StringValue",
    path_redirect: ".google.protobuf.StringValue",
    code_redirect: ".google.protobuf.UInt32Value",
    request_header_fields: "repeated .envoy.config.core.v3.HeaderValue",
    response_header_fields: "repeated .envoy.config.core.v3.HeaderValue",
    request_header_matches: "repeated .envoy.config.route.v3.HeaderMatcher",
    response_header_matches: "repeated .envoy.config.route.v3.HeaderMatcher",
  },
};
const PACKAGE = "envoy.RouterCheckToolSchema";
const IMPORTS = [
  "google/protobuf/wrappers.proto",
  "envoy/config/core/v3/base.proto",
  "envoy/config/route/v3/route_components.proto",
];

let made: DescMessage | undefined;

/** A test file is only ever text, so the numbers of its fields are of no account. */
function schema(): DescMessage {
  if (made === undefined) {
    const file = fromJson(FileDescriptorProtoSchema, {
      name: "router_check.proto",
      package: PACKAGE,
      syntax: "proto3",
      dependency: IMPORTS,
      messageType: Object.entries(MESSAGES).map(([name, fields]) => ({
        name,
        field: Object.entries(fields).map(field),
      })),
    });
    made = createFileRegistry(file, (name) => descriptors().getFile(name)).getMessage(`${PACKAGE}.Validation`);
  }
  if (made === undefined) throw new Error(`no message Validation in ${PACKAGE}`);
  return made;
}

function field([name, written]: [string, string], index: number) {
  const type = written.replace("repeated ", "");
  return {
    name,
    jsonName: name.replace(/_[a-z]/g, (letter) => letter.charAt(1).toUpperCase()),
    number: index + 1,
    label: type === written ? "LABEL_OPTIONAL" : "LABEL_REPEATED",
    ...(/^[.A-Z]/.test(type)
      ? { type: "TYPE_MESSAGE", typeName: type.startsWith(".") ? type : `.${PACKAGE}.${type}` }
      : { type: `TYPE_${type.toUpperCase()}` }),
  };
}

function readTests(file: Fields): RouteTest[] {
  if (file.lacks("tests")) file.reject("tests", "is required", "write at least one test");
  return file.messages("tests").map(readTest);
}

function readTest(test: Fields): RouteTest {
  const [input, validate] = (["input", "validate"] as const).map((name) => {
    if (!test.has(name)) test.reject(name, "is required");
    return test.message(name);
  });
  return {
    name: required(test, "test_name"),
    request: input === undefined ? NO_REQUEST : readInput(input),
    expected: validate === undefined ? new Map() : readExpected(validate),
    requestHeaders: validate === undefined ? [] : readExpectations(validate, "request"),
    responseHeaders: validate === undefined ? [] : readExpectations(validate, "response"),
  };
}

function required(owner: Fields, name: string): string {
  if (owner.lacks(name)) owner.reject(name, "is required");
  return owner.string(name);
}

/** Stands for an input that was rejected. */
const NO_REQUEST: TestedRequest = {
  method: "",
  authority: "",
  path: "",
  scheme: "http",
  headers: [],
  responseHeaders: [],
  ticket: 0,
};

/** Envoy's own limit. */
const SHORTEST_METHOD = 3;

function readInput(input: Fields): TestedRequest {
  // Of what a runtime key can turn on, XLB takes nothing yet: such a route is refused with its configuration.
  input.skip("runtime");
  const method = input.string("method") || "GET";
  if (method.length < SHORTEST_METHOD)
    input.reject("method", `must have at least ${SHORTEST_METHOD} characters`, "write it as GET or POST");
  const ticket = input.number("random_value") ?? 0;
  if (!Number.isSafeInteger(ticket))
    input.reject("random_value", `must be at most ${Number.MAX_SAFE_INTEGER}`, "its remainder by the weights will do");
  const scheme = input.boolean("ssl") === true ? "https" : "http";
  const internal: HeaderField[] = input.boolean("internal") === true ? [["x-envoy-internal", "true"]] : [];
  const added = readFields(input, "additional_request_headers", (name) => {
    const field = PSEUDO[name.toLowerCase()];
    return field === undefined ? undefined : `write it as input.${field}`;
  });
  return {
    method,
    authority: required(input, "authority"),
    path: required(input, "path"),
    scheme,
    headers: [["x-forwarded-proto", scheme], ...internal, ...added],
    responseHeaders: readFields(input, "additional_response_headers"),
    ticket,
  };
}

/** What has a field of its own. */
const PSEUDO: { readonly [name: string]: string } = {
  ":authority": "authority",
  host: "authority",
  ":path": "path",
  ":method": "method",
  ":scheme": "ssl",
};

function readFields(owner: Fields, name: string, mend?: (name: string) => string | undefined): HeaderField[] {
  return owner.messages(name).map((header): HeaderField => {
    const key = header.string("key");
    const instead = mend?.(key);
    if (instead !== undefined) header.reject("key", `${key} has a field of its own`, instead);
    return [key, header.string("value")];
  });
}

function readExpected(validate: Fields): Map<Aspect, string> {
  const read = (aspect: Aspect) =>
    aspect === "code_redirect" ? String(validate.number(aspect) ?? 0) : validate.string(aspect);
  return new Map(ASPECTS.filter((aspect) => validate.has(aspect)).map((aspect) => [aspect, read(aspect)]));
}

function readExpectations(validate: Fields, side: "request" | "response"): HeaderExpectation[] {
  const matches = validate.messages(`${side}_header_matches`).map((header): HeaderExpectation => {
    const match = readHeaderMatch(header);
    const asked = `${side}_header_matches.${formOf(header, match.value.kind)}`;
    return { kind: "matches", asked, name: header.string("name"), match };
  });
  const equal = readFields(validate, `${side}_header_fields`).map(
    ([name, value]): HeaderExpectation => ({ kind: "equals", asked: `${side}_header_fields`, name, value }),
  );
  return [...matches, ...equal];
}

/** The name of the field that says how a header is to match. */
function formOf(header: Fields, kind: string): string {
  if (header.has("string_match")) return `string_match.${kind === "regex" ? "safe_regex" : kind}`;
  const forms = [...Object.keys(DEPRECATED), "safe_regex_match", "range_match"];
  return forms.find((form) => header.has(form)) ?? "present_match";
}
