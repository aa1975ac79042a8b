/** The calls that check a remote base, and the properties that it is expected to have. */
import type { IdsQuery, PromptForm, RowsQuery } from "./api.ts";
import type { BaseRow, TokenLogprob } from "./base-row.ts";

/** Asks the base once. */
export interface Prober {
  rows(query: Omit<RowsQuery, "salt">): Promise<{
    readonly rows: readonly BaseRow[];
    readonly cachedTokens: number | null;
    readonly promptTokens: number | null;
  }>;
  /** Null if tokens cannot be asked for by id. */
  readonly ids: ((query: Omit<IdsQuery, "salt">) => Promise<readonly TokenLogprob[]>) | null;
  /** Ids of a text without added special tokens; null if the server has no such route. */
  tokenize(text: string): Promise<readonly number[] | null>;
}

/** The values that the base must agree with. */
export interface Expected {
  readonly prompts: PromptForm;
  readonly vocabSize: number;
  readonly contextTokens: number;
  /** Ids of a text, by the tokenizer in the manifest; null if it cannot represent the text. */
  readonly encode: (text: string) => readonly number[] | null;
  /** The token at the beginning of each prompt; null if there is none. */
  readonly bosId: number | null;
  /** Texts of special tokens. */
  readonly specialTexts: readonly string[];
  readonly checkTokenizer: boolean;
  readonly top: number;
  /** Most prompts in one call. */
  readonly rowsMax: number;
  /** How the server is told to give a longer list. */
  readonly topRemedy: string;
}
