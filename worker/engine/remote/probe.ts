/**
 * Checks a remote base before it is used, and again when it may have become another one. What does not fit is refused with a
 * reason and a remedy, because a wrong row steers towards wrong tokens without any error.
 */
import { AppError } from "../../../shared/api/errors.ts";
import type { BaseRow, TokenLogprob } from "./base-row.ts";
import type { Expected, Prober } from "./prober.ts";
import type { RowsQuery } from "./api.ts";
import { checkContinues, compareTokenCounts } from "./text-probe.ts";
import { compareTokenizers, HARD_TEXTS } from "./tokenizer-probe.ts";

export interface ProbeResult {
  /** Rows of the probe's contexts, for the comparison after a reconnect. */
  readonly reference: readonly BaseRow[];
  readonly warnings: readonly string[];
}

/** Log-probabilities of the same context may differ so much in nats between two batches: 8-bit activations round coarsely. */
const TOLERANCE = 0.3;
/** Tokens of each row that are compared. */
const COMPARED = 5;
const CACHE_PROBE_TOKENS = 160;

/** The question for a row. */
type Place = Pick<RowsQuery, "context" | "chat">;

/** The places of the probes. */
function probePlaces(expected: Expected): Place[] {
  const { prompts, encode } = expected;
  const texts = [HARD_TEXTS[0]!, HARD_TEXTS.at(-1)!, HARD_TEXTS.join("\n")];
  if (prompts === "ids") return idContexts(expected).map((context) => ({ context }));
  if (prompts === "text") return texts.map((text) => ({ context: encode(text) ?? [] }));
  return texts.map((content) => ({
    context: [],
    chat: { messages: [{ role: "user", content }], replyFrom: 0 },
  }));
}

/** Ids spread over the vocabulary: any model has a distribution after them. The last context ends with the highest id. */
function idContexts({ vocabSize }: Pick<Expected, "vocabSize">): number[][] {
  const [one, two, three] = [3, 7, 12].map((count, i) =>
    Array.from({ length: count }, (_, at) => 1 + ((at * 7_919 + i * 104_729) % (vocabSize - 1))),
  ) as [number[], number[], number[]];
  return [one, two, [...three, vocabSize - 1]];
}

/** @throws Error with reason and remedy; AppError base_unavailable if the base does not answer */
export async function probe(prober: Prober, expected: Expected): Promise<ProbeResult> {
  const { top } = expected;
  const places = probePlaces(expected);
  const reference: BaseRow[] = [];
  for (const place of places) {
    const query = { ...place, drafts: [], top, temperature: 1 };
    const { rows } = await prober.rows(query).catch((error: Error) => {
      throw isAway(error) ? error : listError(error, expected, reference.length);
    });
    reference.push(rows[0]!);
  }
  const hot = await prober.rows({ ...places[0]!, drafts: [], top, temperature: 2 });
  checkTemperature(reference[0]!, hot.rows[0]!);
  const warnings = [...(await checkPrompts(prober, expected))];
  await checkDrafts(prober, expected);
  await checkTogether(prober, expected, reference);
  if (expected.prompts === "ids") warnings.push(...(await checkPrefixCache(prober, expected)));
  return { reference, warnings };
}

/** That the base reads prompts as they are meant. @returns warnings @throws Error with reason and remedy */
async function checkPrompts(prober: Prober, expected: Expected): Promise<string[]> {
  if (expected.prompts === "ids") return compareTokenizers(prober, expected);
  if (expected.prompts === "text") return compareTokenCounts(prober, expected);
  if (expected.prompts === "chat") await checkContinues(prober, expected);
  return [];
}

/** @param index of the place that has no row */
function listError(
  error: Error,
  { prompts, top, topRemedy, vocabSize }: Expected,
  index: number,
): Error {
  const reason =
    prompts === "ids" && index === 2
      ? `it has no token ${vocabSize - 1} (${error.message}), the last one of the tokenizer in the manifest. Use the tokenizer files of the model that it serves`
      : `it gives no ${top} log-probabilities (${error.message}). ${topRemedy}`;
  return new Error(reason, { cause: error });
}

/** Whether a base still gives the rows that it gave. */
export async function isSame(
  prober: Prober,
  expected: Expected,
  reference: readonly BaseRow[],
): Promise<boolean> {
  const rows: BaseRow[] = [];
  for (const place of probePlaces(expected)) {
    const reply = await prober.rows({ ...place, drafts: [], top: expected.top, temperature: 1 });
    rows.push(reply.rows[0]!);
  }
  return haveSameRows(rows, reference);
}

export const haveSameRows = (rows: readonly BaseRow[], reference: readonly BaseRow[]) =>
  rows.every((row, i) => difference(row, reference[i]!) <= TOLERANCE);

/** Largest difference of the most likely tokens, in nats. */
function difference(row: BaseRow, other: BaseRow): number {
  let largest = 0;
  for (const [id, logprob] of [...other.seen].slice(0, COMPARED)) {
    const value = row.seen.get(id);
    // A list may be shorter: then the token may be one that ends it.
    const least = row.seen.size < COMPARED ? row.unseenMax : Number.NEGATIVE_INFINITY;
    if (value === undefined && logprob > least + TOLERANCE) return Number.POSITIVE_INFINITY;
    if (value !== undefined) largest = Math.max(largest, Math.abs(value - logprob));
  }
  return largest;
}

/**
 * Log-probabilities are wanted before the temperature. If they come after it, those at temperature 1 are the same, but only if
 * nothing else changed them: then all differences at temperature 2 are half as large.
 */
function checkTemperature(one: BaseRow, two: BaseRow): void {
  const shared = [...one.seen.keys()].filter((id) => two.seen.has(id)).slice(0, 8);
  const [first] = shared;
  const gap = (row: BaseRow, id: number) => row.seen.get(first!)! - row.seen.get(id)!;
  const fits = (factor: number) =>
    shared.every((id) => Math.abs(gap(two, id) - factor * gap(one, id)) <= TOLERANCE);
  if (shared.length >= 2 && (fits(1) || fits(0.5))) return;
  throw new Error(
    "its log-probabilities are not those of the model: they change with the temperature, and not only by it. Start vLLM with --logprobs-mode raw_logprobs, SGLang with SGLANG_RETURN_ORIGINAL_LOGPROB=1",
  );
}

/** The rows of a context and its drafts in one call must be those of calls with one prompt each. */
async function checkDrafts(prober: Prober, expected: Expected): Promise<void> {
  const { rowsMax, top } = expected;
  if (rowsMax === 1) return;
  const all = probePlaces(expected)[1]!.context;
  const drafts = all.slice(3, 3 + Math.min(3, rowsMax - 1));
  const query = { context: all.slice(0, 3), drafts, top, temperature: 1 };
  const { rows } = await prober.rows(query).catch((error: Error) => {
    if (isAway(error)) throw error;
    throw new Error(`it answers no call with several prompts (${error.message}). Set rows to 1`, {
      cause: error,
    });
  });
  for (const [i, row] of rows.entries()) {
    const context = [...query.context, ...drafts.slice(0, i)];
    const [alone] = (await prober.rows({ ...query, context, drafts: [] })).rows;
    if (difference(row, alone!) <= TOLERANCE) continue;
    throw new Error(
      "a call with several prompts gives other log-probabilities than one call for each. Upgrade the server, or set rows to 1",
    );
  }
}

/**
 * Calls of different kinds that run at the same time must not get each other's rows, nor lists of another length, nor the tokens
 * that another call asks for.
 */
async function checkTogether(
  prober: Prober,
  expected: Expected,
  reference: readonly BaseRow[],
): Promise<void> {
  const { vocabSize, top } = expected;
  const all = probePlaces(expected);
  const short = Math.min(top, 2);
  const rowsOf = async (i: number, length: number) => {
    const query = { ...all[i]!, drafts: [], top: length, temperature: 1 };
    const [row] = (await prober.rows(query)).rows;
    return row!.topCount <= length && difference(row!, reference[i]!);
  };
  const idsOf = async (i: number) => {
    const row = reference[i]!;
    // Some that are known, and some that are not.
    const known = [...row.seen.keys()].slice(0, 2);
    const unknown = [1, 2, 3].map((k) => (k * 31 + i) % vocabSize);
    const ids = [...new Set([...known, ...unknown])];
    const values = new Map(await prober.ids!({ context: all[i]!.context, ids, known: row.known }));
    row.withAsked(ids.map((id): TokenLogprob => [id, values.get(id)!]));
    return Math.max(...known.map((id) => Math.abs(values.get(id)! - row.seen.get(id)!)));
  };
  const liftedOf = async (i: number) => {
    const lifts = new Map([1, 2, 3].map((k) => [(k * 31 + i) % vocabSize, 3]));
    const query = { ...all[i]!, drafts: [], top, temperature: 1, lifts };
    const [row] = (await prober.rows(query)).rows;
    return row ? difference(row, reference[i]!) : 0;
  };
  const places = all.map((_, i) => i);
  const calls = [
    ...places.map((i) => rowsOf(i, top)),
    ...places.map(liftedOf),
    ...(prober.ids ? places.map(idsOf) : []),
    ...places.map((i) => rowsOf(i, short)),
    ...places.toReversed().map((i) => rowsOf(i, top)),
  ];
  const differences = await Promise.allSettled(calls);
  for (const one of differences) {
    if (one.status === "rejected" && isAway(one.reason)) throw one.reason;
    const isRight = one.status === "fulfilled" && one.value !== false && one.value <= TOLERANCE;
    if (isRight) continue;
    throw new Error(
      "requests that run at the same time get each other's log-probabilities, or other ones than alone. Upgrade the server, or set concurrency to 1",
      { cause: one.status === "rejected" ? one.reason : undefined },
    );
  }
}

/** Whether the base did not answer, and may again later. */
export const isAway = (error: unknown): error is AppError =>
  error instanceof AppError && error.code === "base_unavailable";

async function checkPrefixCache(
  prober: Prober,
  { vocabSize, contextTokens }: Expected,
): Promise<string[]> {
  const length = Math.min(CACHE_PROBE_TOKENS, contextTokens - 2);
  const context = Array.from({ length }, (_, i) => 1 + ((i * 31) % (vocabSize - 1)));
  const ask = () => prober.rows({ context, drafts: [], top: 1, temperature: 1 });
  await ask();
  const { cachedTokens } = await ask();
  if (cachedTokens === null || cachedTokens * 2 >= length) return [];
  return [
    `it computes the whole context for each token, because its prefix cache is off (${cachedTokens} of ${length} tokens). Start vLLM with --enable-prefix-caching, llama.cpp with --cache-prompt`,
  ];
}
