/**
 * The interface of a server's API: how rows are asked for, and how a reply becomes rows. An implementation has pure functions
 * only, so that its shapes can be tested without a server.
 *
 * To add an API: implement `BaseApi` in a file of apis/ and list it in apis/apis.ts.
 */
import type { BaseRow, TokenLogprob } from "./base-row.ts";

/** A message of a conversation. */
export interface BaseMessage {
  readonly role: string;
  readonly content: string;
}

/** A conversation, for a server that takes no other prompt. */
export interface ChatContext {
  readonly messages: readonly BaseMessage[];
  /** Where the reply begins in the context. */
  readonly replyFrom: number;
}

/** Rows of a context, and of the context continued by drafts. */
export interface RowsQuery {
  /** Prompt and output so far. */
  readonly context: readonly number[];
  /** Expected next tokens: rows are wanted after the context and after each draft. */
  readonly drafts: readonly number[];
  /** How many most likely tokens each row has. */
  readonly top: number;
  /**
   * Tokens that each row tells too if they are likely enough: with a log-probability that is at most so many nats below that of the
   * last token of the list. Absent for none, and where the API has no `liftMax`.
   */
  readonly lifts?: ReadonlyMap<number, number>;
  /** Separates the prefix caches of tenants, where the server can. */
  readonly salt: string;
  /** The server's slot that has the context in its cache, if it is known and still busy with a stream that was left. */
  readonly slot?: number | null;
  /** Whether the server has not seen the context yet, so that the call may take long. */
  readonly isFirst?: boolean;
  /** The chat that the context stands for; absent if its tokens or its text are sent. */
  readonly chat?: ChatContext | undefined;
  /** Only probes ask with another temperature than 1. */
  readonly temperature?: number;
}

/** The base's own continuations of the context, and of the context continued by drafts. */
export interface StreamQuery extends RowsQuery {
  /** Most tokens of each. */
  readonly tokens: number;
  /**
   * Tokens that the continuation of the context begins with, before the base's own; [] for none, and where the API has no `canLead`. With
   * them there are no drafts, but the rows are the same as after so many drafts.
   */
  readonly lead: readonly number[];
}

/** A position of a continuation. */
export interface StreamedRow {
  /** 0 for the continuation of the context, i for that after i drafts. */
  readonly branch: number;
  readonly row: BaseRow;
  /** The base's own token after the row. */
  readonly token: number;
}

/** Log-probabilities of tokens by id, after a context. */
export interface IdsQuery {
  readonly context: readonly number[];
  readonly slot?: number | null;
  readonly ids: readonly number[];
  /** The most likely token, for a server that tells ratios only. */
  readonly known: TokenLogprob;
  readonly salt: string;
}

export interface ApiCall {
  readonly path: string;
  readonly body: object;
}

export interface RowsReply {
  /** One for the context and one for each draft; [] if the server cannot tell lifted tokens in this place. */
  readonly rows: readonly BaseRow[];
  /** Tokens of the context that the server had in its cache; null if it does not say. */
  readonly cachedTokens: number | null;
  /** The server's slot that has the context in its cache now; absent if it has no slots, or does not say. */
  readonly slot?: number | null;
  /** Tokens that the server had to compute for each row, and not from its cache; null if it does not say. */
  readonly computedTokens: readonly number[] | null;
  /** Tokens of the prompt as the server counts them, where that is a check of its tokenizer; otherwise null. */
  readonly promptTokens?: number | null;
}

/**
 * `ids`: token ids in and out. `text`: the text of the context, and the texts of tokens. `chat`: the same, and a reply can be
 * continued. `chat-start`: only the first token of a reply is known.
 */
export type PromptForm = "ids" | "text" | "chat" | "chat-start";

/** The parsers throw InvalidRow if a reply is not that of the query, and any error if it has another form. */
export interface BaseApi {
  readonly prompts: PromptForm;
  /** Other ways to ask, one of which may be that of the server: the first one that passes the probe is used. */
  readonly otherForms?: readonly BaseApi[];
  /** Tokens that cannot be used with the API, and are never sampled; absent for none. */
  readonly unusableIds?: readonly number[];
  /** Largest `top` that the server allows; null for the vocabulary. */
  readonly topMax: number | null;
  /** The next step if the server refuses `top`. */
  readonly topRemedy: string;
  /** Whether the rows of a call come from one prompt, and not from one for each draft. */
  readonly hasOnePrompt?: boolean;
  /** Most `lifts` of a query; absent if rows tell no others than the most likely tokens. */
  readonly liftMax?: number;
  /** Bytes of one token in a reply, at most. */
  readonly entryBytes: number;
  rows(query: RowsQuery): ApiCall;
  parseRows(reply: unknown, query: RowsQuery, vocabSize: number): RowsReply;
  /** Null if tokens cannot be asked for by id: then more of them are known only by a larger `top`. */
  readonly ids: {
    /** Most ids of one call. */
    readonly max: number;
    readonly call: (query: IdsQuery) => ApiCall;
    readonly parse: (reply: unknown, query: IdsQuery) => readonly TokenLogprob[];
  } | null;
  /** Absent if the server's streams have no log-probabilities, or repeat all of them in each event. */
  readonly stream?: {
    /** Whether a continuation can be made to begin with given tokens. */
    readonly canLead?: boolean;
    readonly call: (query: StreamQuery) => ApiCall;
    /** Makes a parser of the events of one stream. It throws InvalidRow if a row of a branch is missing. */
    readonly parser: (
      query: StreamQuery,
      vocabSize: number,
    ) => (event: unknown) => readonly StreamedRow[];
  };
  /** How many prompts the server computes at once; absent if it has no such number. */
  readonly slots?: { readonly path: string; readonly parse: (reply: unknown) => number };
  /** Ids of a text without added special tokens. Null if the API has no such route. */
  readonly tokenize: {
    readonly call: (text: string) => ApiCall;
    readonly parse: (reply: unknown) => readonly number[];
  } | null;
}

/** A count of tokens that a server tells; null unless it is a finite number that is not negative. */
export function toldCount(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) && value >= 0 ? value : null;
}

/** Tokens that were not in the cache; null if a server does not tell how many were, or tells more than there are. */
export function computedCount(tokens: number, cachedTokens: number | null): number | null {
  return cachedTokens === null ? null : toldCount(tokens - cachedTokens);
}

/** One prompt for each row of a query. */
export function promptsOf({ context, drafts }: Pick<RowsQuery, "context" | "drafts">): number[][] {
  return Array.from({ length: drafts.length + 1 }, (_, i) => [...context, ...drafts.slice(0, i)]);
}
