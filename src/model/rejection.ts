/** One reason why a configuration cannot be taken. `path` is the field's path in the file, `mend` says what to do. */
export interface Rejection {
  readonly path: string;
  readonly message: string;
  readonly mend?: string;
  /** 1-based place in the source text, where the source has one. */
  readonly line?: number;
  readonly column?: number;
  /** The text that `line` counts in, where it is not the one that was asked about: an overlay, say. */
  readonly file?: string;
}

export type Result<T> =
  /** `idle`: what it says without effect, a sentence for each field. Missing: nothing. */
  | { readonly ok: true; readonly value: T; readonly idle?: readonly string[] }
  | { readonly ok: false; readonly rejections: readonly Rejection[] };
