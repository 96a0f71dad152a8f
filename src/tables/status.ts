import { STATUS_CODES } from "node:http";

/** Envoy's words where Node has others, source/common/http/codes.cc, and those that local replies are made with. */
const REASONS: Readonly<Record<number, string>> = {
  400: "Bad Request",
  403: "Forbidden",
  404: "Not Found",
  408: "Request Timeout",
  426: "Upgrade Required",
  431: "Request Header Fields Too Large",
  501: "Not Implemented",
  502: "Bad Gateway",
  503: "Service Unavailable",
  504: "Gateway Timeout",
};

/** What stands behind a status in the first line of an answer: RFC 9112 section 4. */
export const reasonOf = (status: number): string => REASONS[status] ?? STATUS_CODES[status] ?? "Unknown";

/** Has a message with this status never a body? RFC 9110 section 6.4.1. */
export const isBodiless = (status: number): boolean => status === 204 || status === 304;
