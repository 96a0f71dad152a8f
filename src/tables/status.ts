import { STATUS_CODES } from "node:http";

/** What stands behind a status in the first line of an answer: RFC 9112 section 4. */
export const reasonOf = (status: number): string => STATUS_CODES[status] ?? "Unknown";

/** Has a message with this status never a body? RFC 9110 section 6.4.1. */
export const isBodiless = (status: number): boolean => status === 204 || status === 304;

/** Does an answer that is no server's say where to go? Envoy does so whatever the status makes of it. */
export const hasLocation = (status: number): boolean => status === 201 || (status >= 300 && status < 400);
