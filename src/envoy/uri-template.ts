/**
 * Envoy's URI templates (envoy.path.match.uri_template, envoy.path.rewrite.uri_template): a regular expression says
 * what they match, as in its source/extensions/path/uri_template_lib, and a substitution what they rewrite.
 */

/** A template as patterns of RE2. */
export interface UriTemplate {
  /** What the whole path has to match; a group for each variable. */
  readonly pattern: string;
  /** Of the variables, in the order of their groups. */
  readonly names: readonly string[];
}

/** What has to be done, or why the text is none. */
type Parsed<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly problem: string };

/** Of a path's characters (RFC 3986, appendix A) all but *. */
const CHARACTERS = "-a-zA-Z0-9._~%!$&'()+,;:@=";
/* So does Envoy 1.40: * and = too. In a literal it takes a * for an operator of the expression, which we refuse. */
const ONE_SEGMENT = `[${CHARACTERS}*]+`;
const ANY_SEGMENTS = `[${CHARACTERS}*/]*`;
const LITERAL = new RegExp(`^[${CHARACTERS}]+$`);
const REWRITE_LITERAL = new RegExp(`^[${CHARACTERS}/]+$`);
const NAME = /^[a-zA-Z][a-zA-Z0-9_]*$/;
const MAX_NAME = 16;
const MAX_NAMES = 5;

class Problem extends Error {}

const refuse = (problem: string): never => {
  throw new Problem(problem);
};

function attempt<T>(work: () => T): Parsed<T> {
  try {
    return { ok: true, value: work() };
  } catch (error) {
    if (error instanceof Problem) return { ok: false, problem: error.message };
    throw error;
  }
}

/** `*` is a segment, `**` any number of them, `{name}` and `{name=videos/*}` keep what they matched. */
export const parseUriTemplate = (template: string): Parsed<UriTemplate> => attempt(() => new Template(template).read());

class Template {
  #rest: string;
  #isOver = false;
  readonly #names: string[] = [];

  constructor(template: string) {
    if (!/^\/[!-~]*$/.test(template)) refuse("must begin with a / and hold visible ASCII alone");
    this.#rest = template.slice(1);
  }

  read(): UriTemplate {
    const segments: string[] = [];
    while (this.#rest !== "") {
      segments.push(this.#rest.startsWith("{") ? this.#variable() : this.#part(""));
      if (this.#rest === "/") {
        segments.push("");
        break;
      }
      if (this.#rest.startsWith("/")) this.#rest = this.#rest.slice(1);
      else if (this.#rest !== "") {
        segments.push(`${segments.pop()}${this.#literal("")}`);
        if (this.#rest !== "") refuse("goes on behind the end of a segment that a * or a variable began");
      }
    }
    return { pattern: `/${segments.join("/")}`, names: this.#names };
  }

  /** A literal or an operator. Behind `**` only literals. */
  #part(end: string): string {
    if (!this.#rest.startsWith("*")) return this.#literal(end);
    if (this.#isOver) refuse("has a * or a variable behind **");
    const isAny = this.#rest.startsWith("**");
    this.#rest = this.#rest.slice(isAny ? 2 : 1);
    this.#isOver = isAny;
    return isAny ? ANY_SEGMENTS : ONE_SEGMENT;
  }

  #literal(end: string): string {
    const stop = [...`/${end}`].map((c) => this.#rest.indexOf(c)).filter((at) => at !== -1);
    const text = this.#rest.slice(0, stop.length === 0 ? undefined : Math.min(...stop));
    if (!LITERAL.test(text)) refuse(`has ${JSON.stringify(text)} where a segment belongs`);
    this.#rest = this.#rest.slice(text.length);
    return text.replace(/[$()+.]/g, "\\$&");
  }

  #variable(): string {
    const [, name = "", , match] = /^\{([^=}]*)(=([^}]*))?\}/.exec(this.#rest) ?? refuse("has a { without a }");
    if (!NAME.test(name)) refuse(`${JSON.stringify(name)} is no name of a variable`);
    if (name.length > MAX_NAME) refuse(`the name ${name} has more than ${MAX_NAME} characters`);
    if (this.#names.includes(name)) refuse(`has the variable ${name} twice`);
    if (this.#names.push(name) > MAX_NAMES) refuse(`has more than ${MAX_NAMES} variables`);
    this.#rest = this.#rest.slice(1 + name.length);
    if (match === undefined) {
      if (this.#isOver) refuse("has a * or a variable behind **");
      this.#rest = this.#rest.slice(1);
      return `(${ONE_SEGMENT})`;
    }
    const parts: string[] = [];
    do {
      this.#rest = this.#rest.slice(1);
      parts.push(this.#part("}"));
    } while (this.#rest.startsWith("/"));
    if (!this.#rest.startsWith("}")) refuse(`the variable ${name} matches what is no segment`);
    this.#rest = this.#rest.slice(1);
    return `(${parts.join("/")})`;
  }
}

/** The substitution for all of a path that matched the template of these variables. */
export function parseUriRewrite(rewrite: string, names: readonly string[]): Parsed<string> {
  return attempt(() => {
    if (!rewrite.startsWith("/")) refuse("must begin with a /");
    if (rewrite.includes("//")) refuse("must not hold //");
    return rewrite.replace(/\{([^}]*)(\}?)|[^{]+/g, (text, name: string | undefined, end: string) => {
      if (name === undefined)
        return REWRITE_LITERAL.test(text) ? text : refuse(`must not hold ${JSON.stringify(text)}`);
      if (end === "") refuse("has a { without a }");
      const group = names.indexOf(name) + 1;
      if (group === 0) refuse(`path_match_policy has no variable ${JSON.stringify(name)}`);
      return `\\${group}`;
    });
  });
}
