/** Texts of heads and of rules: what XLB and Envoy hold for equal, and how a text is bytes. */

/** As Envoy does it: ASCII letters only. */
export function lowerCase(text: string): string {
  return text.replace(/[A-Z]+/g, (letters) => letters.toLowerCase());
}

export const isAscii = (text: string) => !/[^\p{ASCII}]/u.test(text);

/** A text of the configuration as a head holds it: a character for each byte. */
export function textBytes(text: string): string {
  return isAscii(text) ? text : Buffer.from(text, "utf8").toString("latin1");
}
