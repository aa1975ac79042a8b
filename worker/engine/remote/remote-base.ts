/** A base that is reached over HTTP: rows for the decode loop, what they cost, and whether it is still the same base. */
import { AppError } from "../../../shared/api/errors.ts";
import type {
  ApiCall,
  BaseApi,
  IdsQuery,
  RowsQuery,
  RowsReply,
  StreamedRow,
  StreamQuery,
} from "./api.ts";
import { InvalidRow, type BaseRow, type TokenLogprob } from "./base-row.ts";
import { BaseWatch } from "./base-watch.ts";
import type { Call, Connection } from "./connection.ts";
import type { Expected, Prober } from "./prober.ts";
import { tenantSalt } from "./tenant-salt.ts";
import { NoText } from "./text-vocabulary.ts";

/** A reply's members beside its log-probabilities, which take up to `entryBytes` each. */
const REPLY_BYTES = 2 ** 16;
/** Members of a stream's event beside its log-probabilities. */
const EVENT_BYTES = 1024;
/** So many rows of each continuation come before a stream makes room for a call that waits. */
const STREAM_ROWS_MIN = 4;
/** A server's properties, its chat template included. */
const PROPS_BYTES = 2 ** 20;
/** How long a start waits for the check of a base. */
const OPEN_MS = 10_000;
/** How long one call of a check is repeated. */
const PROBE_PATIENCE_MS = 5_000;
/** Time between two texts of a server's errors for the log: each may be another one. */
const SERVER_TEXT_MS = 60_000;

export interface RemoteBaseOptions {
  readonly api: BaseApi;
  readonly connection: Pick<
    Connection,
    "call" | "close" | "beforeTry" | "onFailure" | "onAway" | "onDisconnect"
  > &
    Partial<Pick<Connection, "events" | "onServerText">>;
  /** The model's name in errors. */
  readonly name: string;
  readonly vocabSize: number;
  /** How many most likely tokens a row has. */
  readonly top: number;
  /** Most rows of one call; 1 for no drafts. */
  readonly rowsMax: number;
}

/** The cost of a call. */
export interface CallTimes {
  readonly ms: number;
  readonly rows: number;
  /** Bodies of request and reply. */
  readonly bytes: number;
}

export class RemoteBase {
  readonly name: string;
  readonly vocabSize: number;
  readonly top: number;
  readonly topMax: number;
  /** Most ids of one `ids` call; 0 if tokens cannot be asked for by id. */
  readonly idsMax: number;
  readonly rowsMax: number;
  /** Most lifted tokens of a query; 0 if rows tell no others than the most likely tokens. */
  readonly liftMax: number;
  /** Whether the rows of a call come from one prompt, and not from one for each draft. */
  readonly hasOnePrompt: boolean;
  /** Tokens that are never sampled. */
  readonly unusableIds: readonly number[];
  readonly #options: RemoteBaseOptions;
  /** In the form that the server takes. */
  #api: BaseApi;
  /** Null if the base is never checked. */
  #watch: BaseWatch | null = null;
  #slots: number | null = null;
  #serverText: string | null = null;
  #serverTextMs = Number.NEGATIVE_INFINITY;
  /** Called when the base can be used again, or cannot any more, or `serverText` has changed. */
  onChange: () => void = () => {};

  constructor(options: RemoteBaseOptions) {
    const { api, name, vocabSize, top, rowsMax } = options;
    this.#options = options;
    this.#api = api;
    this.name = name;
    this.vocabSize = vocabSize;
    this.topMax = Math.min(api.topMax ?? vocabSize, vocabSize);
    this.top = Math.min(top, this.topMax);
    this.idsMax = api.ids?.max ?? 0;
    // A chat has one conversation in a call.
    this.rowsMax = api.prompts === "ids" || api.prompts === "text" ? rowsMax : 1;
    this.liftMax = api.liftMax ?? 0;
    this.hasOnePrompt = api.hasOnePrompt ?? false;
    this.unusableIds = api.unusableIds ?? [];
    options.connection.beforeTry = async () => this.#watch?.ready();
    options.connection.onFailure = () => this.#watch?.suspect();
    options.connection.onAway = (reason) => this.#watch?.away(reason);
    options.connection.onServerText = (text) => this.#keepServerText(text);
    options.connection.onDisconnect = () => this.#watch?.disconnected();
  }

  /**
   * Checks the base before its first use, and from then on when it may have become another one. One that is away is waited for in
   * the background.
   * @throws Error with reason and remedy if it does not fit
   */
  async open(
    expected: Omit<Expected, "prompts" | "vocabSize" | "top" | "rowsMax" | "topRemedy">,
    waitMs = OPEN_MS,
  ): Promise<void> {
    const { name, vocabSize, top, rowsMax } = this;
    const { prompts, topRemedy, otherForms = [] } = this.#api;
    const forms = [this.#api, ...otherForms];
    this.#watch = new BaseWatch({
      probers: forms.map((api) => this.#proberOf(api)),
      onForm: (form) => (this.#api = forms[form]!),
      expected: { ...expected, prompts, vocabSize, top, rowsMax, topRemedy },
      name,
      onChange: () => {
        if (this.problem === null) void this.#readSlots();
        this.onChange();
      },
    });
    await this.#watch.open(waitMs);
    if (this.problem === null) await this.#readSlots();
  }

  /**
   * Most rows of one call while so many sequences run. A prompt without a slot of its own would take that of another one, with its
   * cache, so the sequences share the slots.
   */
  rowsFor(sequences: number): number {
    if (this.#slots === null) return this.rowsMax;
    return Math.max(1, Math.min(this.rowsMax, Math.floor(this.#slots / Math.max(1, sequences))));
  }

  /**
   * Whether calls may wait for a slot while so many sequences run. Each sequence has one of its own only if there are enough. Some
   * servers never answer a call for a slot that they do not have.
   */
  canWaitFor(slot: number, sequences: number): boolean {
    return this.#slots === null || (slot < this.#slots && sequences <= this.#slots);
  }

  /** Why the base cannot be used now; null if it can. */
  get problem(): string | null {
    return this.#watch?.problem ?? null;
  }

  /** The result of its last check, for the log. */
  get warnings(): readonly string[] {
    const warnings = this.#watch?.warnings ?? [];
    if (this.#slots === null || this.#slots >= this.rowsMax) return warnings;
    const few = `its server has ${this.#slots} slots, so a call has no more rows, and "rows" is ${this.rowsMax}. Start llama.cpp with --parallel ${this.rowsMax} or more`;
    return [...warnings, few];
  }

  /** The text of the last error that its server has answered, for the log alone; null if there is none. */
  get serverText(): string | null {
    return this.#serverText;
  }

  /**
   * @throws AppError base_unavailable, base_failed
   * @throws the signal's reason
   */
  async rows(query: RowsQuery, signal: AbortSignal): Promise<RowsReply & { cost: CallTimes }> {
    const rows = query.drafts.length + 1;
    const { lifts } = query;
    const { value, cost } = await this.#call(this.#bodyOf(query), {
      entries: rows * (query.top + (lifts?.size ?? 0)),
      kind: query.isFirst ? "first" : query.drafts.length > 0 ? "drafted" : "needed",
      owner: query.salt,
      signal,
      parse: (reply) => this.#api.parseRows(reply, query, this.vocabSize),
    });
    return { ...value, cost: { ...cost, rows } };
  }

  /**
   * A row with the log-probabilities of more tokens.
   * @param row after the same context
   * @param query with at most `idsMax` ids
   * @throws as `rows`
   */
  async ids(
    row: BaseRow,
    asked: Omit<IdsQuery, "known">,
    signal: AbortSignal,
  ): Promise<{ row: BaseRow; cost: CallTimes }> {
    const query = { ...asked, known: row.known };
    const { ids } = this.#api;
    const { value, cost } = await this.#call(ids!.call(query), {
      entries: query.ids.length,
      kind: "needed",
      owner: query.salt,
      signal,
      // A wrong reply is asked for again, as those of `rows` are.
      parse: (reply) => row.withAsked(askedOf(ids!.parse(reply, query), query)),
    });
    return { row: value, cost: { ...cost, rows: 1 } };
  }

  /** Whether the base's own continuations can be streamed. */
  get canStream(): boolean {
    return this.#api.stream !== undefined && this.#options.connection.events !== undefined;
  }

  /** Whether a stream can be made to begin with given tokens. */
  get canLead(): boolean {
    return this.#api.stream?.canLead ?? false;
  }

  /**
   * Whether the server keeps each prompt's cache in a slot. A call beside a stream of the same context would take another slot, and
   * fill its cache anew.
   */
  get hasSlots(): boolean {
    return this.#api.slots !== undefined;
  }

  /**
   * The base's own continuations, until they end, or until another call waits for their place. A failure is not repeated: the rows can be
   * called for.
   * @throws any error, and the signal's reason
   */
  async *stream(
    query: StreamQuery,
    signal: AbortSignal,
  ): AsyncGenerator<{ readonly rows: readonly StreamedRow[]; readonly bytes: number }> {
    const api = this.#api;
    const { connection } = this.#options;
    const rows = query.tokens * (query.drafts.length + 1);
    const bytesMax = REPLY_BYTES + rows * (EVENT_BYTES + query.top * api.entryBytes);
    const eventsMin = STREAM_ROWS_MIN * (query.drafts.length + 1);
    const parse = api.stream!.parser(query, this.vocabSize);
    const events = connection.events!({
      ...api.stream!.call(query),
      bytesMax,
      eventsMin,
      signal,
      owner: query.salt,
    });
    for await (const { value, bytes } of events) yield { rows: parse(value), bytes };
  }

  close(): Promise<void> {
    this.#watch?.close();
    return this.#options.connection.close();
  }

  async #call<T>(
    { path, body }: ApiCall,
    {
      entries,
      ...options
    }: Omit<Call<T>, "path" | "body" | "bytesMax"> & { readonly entries: number },
  ): Promise<{ value: T; cost: Omit<CallTimes, "rows"> }> {
    const startedMs = performance.now();
    const bytesMax = REPLY_BYTES + entries * this.#api.entryBytes;
    const { value, bytesSent, bytesReceived } = await this.#options.connection.call({
      path,
      body,
      bytesMax,
      ...options,
    });
    return { value, cost: { ms: performance.now() - startedMs, bytes: bytesSent + bytesReceived } };
  }

  /** @throws AppError base_failed if the API cannot be told the context */
  #bodyOf(query: RowsQuery): ApiCall {
    try {
      return this.#api.rows(query);
    } catch (error) {
      if (!(error instanceof NoText)) throw error;
      throw new AppError("base_failed", `The base model ${this.name}: ${error.message}`);
    }
  }

  /** It may have been started again with other slots. A server that does not tell them may have enough. */
  async #readSlots(): Promise<void> {
    const { slots } = this.#api;
    if (!slots) return;
    const { signal } = new AbortController();
    const of = { kind: "probe", owner: "", signal, patienceMs: 0 } as const;
    const call = {
      ...of,
      method: "GET",
      path: slots.path,
      bytesMax: PROPS_BYTES,
      parse: slots.parse,
    } as const;
    const reply = await this.#options.connection.call(call).catch(() => null);
    const count = reply?.value;
    this.#slots = typeof count === "number" && count >= 1 ? count : null;
  }

  #keepServerText(text: string): void {
    const nowMs = performance.now();
    if (text === this.#serverText || nowMs - this.#serverTextMs < SERVER_TEXT_MS) return;
    this.#serverText = text;
    this.#serverTextMs = nowMs;
    this.onChange();
  }

  #proberOf(api: BaseApi): Prober {
    const { signal } = new AbortController();
    const salt = tenantSalt("");
    const of = { kind: "probe", owner: "", signal, patienceMs: PROBE_PATIENCE_MS } as const;
    const { ids } = api;
    return {
      ids:
        ids &&
        (async (asked) => {
          const query = { ...asked, salt };
          const parse = (reply: unknown) => askedOf(ids.parse(reply, query), query);
          const options = { ...of, entries: query.ids.length, parse };
          return (await this.#call(ids.call(query), options)).value;
        }),
      rows: async (query) => {
        const full = { ...query, salt };
        const parse = (reply: unknown) => api.parseRows(reply, full, this.vocabSize);
        const entries = query.top * (query.drafts.length + 1);
        const options = { ...of, entries, parse };
        const { value } = await this.#call(api.rows(full), options);
        return { ...value, promptTokens: value.promptTokens ?? null };
      },
      tokenize: async (text) => {
        if (!api.tokenize) return null;
        const { parse } = api.tokenize;
        const options = { ...of, entries: text.length, parse };
        return (await this.#call(api.tokenize.call(text), options)).value;
      },
    };
  }
}

/** @throws InvalidRow unless every id has come: a server that ignores the field would be asked for ever */
function askedOf(logprobs: readonly TokenLogprob[], { ids }: IdsQuery): readonly TokenLogprob[] {
  const come = new Set(logprobs.map(([id]) => id));
  const missing = ids.find((id) => !come.has(id));
  if (missing === undefined) return logprobs;
  throw new InvalidRow(`token ${missing} was asked for by its id, and did not come`);
}
