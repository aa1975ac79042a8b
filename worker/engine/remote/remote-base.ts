/** A base that is reached over HTTP: rows for the decode loop, what they cost, and whether it is still the same base. */
import { createHash } from "node:crypto";
import { AppError } from "../../../shared/api/errors.ts";
import type { ApiCall, BaseApi, IdsQuery, RowsQuery, RowsReply } from "./api.ts";
import { InvalidRow, type BaseRow, type TokenLogprob } from "./base-row.ts";
import type { Connection } from "./connection.ts";
import { isSame, probe, type Expected, type Prober } from "./probe.ts";

/** A reply's members beside its log-probabilities, which take up to `entryBytes` each. */
const REPLY_BYTES = 2 ** 16;
/** A server that closes each connection is not compared more often than this. */
const COMPARE_MS_MIN = 5_000;

export interface RemoteBaseOptions {
  readonly api: BaseApi;
  readonly connection: Pick<Connection, "call" | "close" | "onReturn" | "onDisconnect">;
  /** The model's name in errors. */
  readonly name: string;
  readonly vocabSize: number;
  /** How many most likely tokens a row has. */
  readonly top: number;
  /** Most rows of one call; 1 for no drafts. */
  readonly rowsMax: number;
}

/** What a call cost. */
export interface CallCost {
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
  readonly #options: RemoteBaseOptions;
  /** Rows of the probe; null before it. */
  #reference: readonly BaseRow[] | null = null;
  /** Whether it may have become another base since it was compared with the reference. */
  #isSuspect = false;
  #comparedMs = 0;
  /** A comparison that is under way: all calls wait for it. */
  #comparison: Promise<void> | null = null;

  constructor(options: RemoteBaseOptions) {
    const { api, name, vocabSize, top, rowsMax } = options;
    this.#options = options;
    this.name = name;
    this.vocabSize = vocabSize;
    this.topMax = Math.min(api.topMax ?? vocabSize, vocabSize);
    this.top = Math.min(top, this.topMax);
    this.idsMax = api.ids?.max ?? 0;
    this.rowsMax = rowsMax;
    options.connection.onReturn = () => {
      this.#isSuspect = true;
      return this.#compare();
    };
    options.connection.onDisconnect = () => {
      this.#isSuspect ||= performance.now() - this.#comparedMs > COMPARE_MS_MIN;
    };
  }

  /** Checks the base before its first use. Returns warnings for the log. @throws Error with reason and remedy */
  async probe(
    expected: Pick<Expected, "contextTokens" | "encode" | "specialTexts" | "checkTokenizer">,
  ): Promise<readonly string[]> {
    const { vocabSize, top } = this;
    const { topRemedy } = this.#options.api;
    const { reference, warnings } = await probe(this.#prober, {
      ...expected,
      vocabSize,
      top,
      topRemedy,
    });
    this.#reference = reference;
    return warnings;
  }

  /**
   * @throws AppError base_unavailable, base_failed
   * @throws the signal's reason
   */
  async rows(query: RowsQuery, signal: AbortSignal): Promise<RowsReply & { cost: CallCost }> {
    if (this.#isSuspect) await this.#compare();
    const rows = query.drafts.length + 1;
    const { value, cost } = await this.#call(this.#options.api.rows(query), {
      entries: rows * query.top,
      signal,
      parse: (reply) => this.#options.api.parseRows(reply, query, this.vocabSize),
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
    query: IdsQuery,
    signal: AbortSignal,
  ): Promise<{ row: BaseRow; cost: CallCost }> {
    if (this.#isSuspect) await this.#compare();
    const { ids } = this.#options.api;
    const { value, cost } = await this.#call(ids!.call(query), {
      entries: query.ids.length,
      signal,
      // A wrong reply is asked for again, as those of `rows` are.
      parse: (reply) => row.withAsked(askedOf(ids!.parse(reply, query), query)),
    });
    return { row: value, cost: { ...cost, rows: 1 } };
  }

  close(): Promise<void> {
    return this.#options.connection.close();
  }

  async #call<T>(
    { path, body }: ApiCall,
    {
      entries,
      signal,
      parse,
      isProbe = false,
    }: {
      entries: number;
      signal: AbortSignal;
      parse: (reply: unknown) => T;
      isProbe?: boolean;
    },
  ): Promise<{ value: T; cost: Omit<CallCost, "rows"> }> {
    const startedMs = performance.now();
    const bytesMax = REPLY_BYTES + entries * this.#options.api.entryBytes;
    const { value, bytesSent, bytesReceived } = await this.#options.connection.call({
      path,
      body,
      bytesMax,
      signal,
      parse,
      isProbe,
    });
    return { value, cost: { ms: performance.now() - startedMs, bytes: bytesSent + bytesReceived } };
  }

  get #prober(): Prober {
    const { api } = this.#options;
    const { signal } = new AbortController();
    return {
      rows: async (query) => {
        const full = { ...query, salt: tenantSalt("") };
        const parse = (reply: unknown) => api.parseRows(reply, full, this.vocabSize);
        const options = { entries: query.top, signal, parse, isProbe: true };
        return (await this.#call(api.rows(full), options)).value;
      },
      tokenize: async (text) => {
        if (!api.tokenize) return null;
        const { parse } = api.tokenize;
        const options = { entries: text.length, signal, parse, isProbe: true };
        return (await this.#call(api.tokenize.call(text), options)).value;
      },
    };
  }

  /** Compares the base with what it was at its probe. While it is another one, each call compares and fails. */
  #compare(): Promise<void> {
    this.#comparison ??= this.#compareNow().finally(() => {
      this.#comparison = null;
    });
    return this.#comparison;
  }

  async #compareNow(): Promise<void> {
    if (!this.#reference || (await isSame(this.#prober, this.#reference, this.top))) {
      this.#isSuspect = false;
      this.#comparedMs = performance.now();
      return;
    }
    throw new AppError(
      "base_failed",
      `The base model ${this.name}: another model answers under its name since it was away`,
    );
  }
}

/** @throws InvalidRow unless every id has come: a server that ignores the field would be asked for ever */
function askedOf(logprobs: readonly TokenLogprob[], { ids }: IdsQuery): readonly TokenLogprob[] {
  const come = new Set(logprobs.map(([id]) => id));
  const missing = ids.find((id) => !come.has(id));
  if (missing === undefined) return logprobs;
  throw new InvalidRow(`token ${missing} was asked for by its id, and did not come`);
}

/** A tenant's salt: the same on every worker, and without the tenant's name. */
export function tenantSalt(tenant: string | undefined): string {
  const hash = createHash("sha256").update(`prefix cache of ${tenant ?? ""}`);
  return hash.digest("base64url").slice(0, 22);
}
