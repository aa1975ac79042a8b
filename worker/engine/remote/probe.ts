/**
 * Checks a remote base before it is used, and again when it may have become another one. What does not fit is refused with a
 * reason and a remedy, because a wrong row steers towards wrong tokens without any error.
 */
import type { RowsQuery } from "./api.ts";
import type { BaseRow } from "./base-row.ts";

/** Asks the base once. */
export interface Prober {
  rows(query: Omit<RowsQuery, "salt">): Promise<{
    readonly rows: readonly BaseRow[];
    readonly cachedTokens: number | null;
  }>;
  /** Ids of a text without added special tokens; null if the server has no such route. */
  tokenize(text: string): Promise<readonly number[] | null>;
}

/** What the base must agree with. */
export interface Expected {
  readonly vocabSize: number;
  readonly contextTokens: number;
  /** Ids of a text, by the tokenizer in the manifest; null if it cannot represent the text. */
  readonly encode: (text: string) => readonly number[] | null;
  /** Texts of special tokens. */
  readonly specialTexts: readonly string[];
  readonly checkTokenizer: boolean;
  readonly top: number;
  /** How the server is told to give a longer list. */
  readonly topRemedy: string;
}

export interface ProbeResult {
  /** Rows of `CONTEXTS`, for the comparison after a reconnect. */
  readonly reference: readonly BaseRow[];
  readonly warnings: readonly string[];
}

/** Texts on which tokenizers differ: spaces, digits, line breaks, accents, scripts, emoji, code. */
const TEXTS = [
  "the capital of france",
  " leading and  double   spaces ",
  "12345 67,890.12 3e-7",
  "line\nbreak\n\n\ttab",
  "naïve café Ünïcödé",
  "日本語のテキスト и кириллица",
  "👩‍👩‍👧 emoji",
  "if (a != b) { return c->d; } // x",
];
/** Log-probabilities of the same context may differ so much in nats between two batches: 8-bit activations round coarsely. */
const TOLERANCE = 0.3;
/** Tokens of each row that are compared. */
const COMPARED = 5;
const CACHE_PROBE_TOKENS = 160;

/** Contexts of the probes: ids spread over the vocabulary, which any model has a distribution for. */
function probeContexts(vocabSize: number): number[][] {
  return [3, 7, 12].map((count, i) =>
    Array.from({ length: count }, (_, at) => 1 + ((at * 7_919 + i * 104_729) % (vocabSize - 1))),
  );
}

/** @throws Error with reason and remedy */
export async function probe(prober: Prober, expected: Expected): Promise<ProbeResult> {
  const { vocabSize, top, topRemedy } = expected;
  const warnings: string[] = [];
  if (expected.checkTokenizer) warnings.push(...(await compareTokenizers(prober, expected)));
  const contexts = probeContexts(vocabSize);
  const ask = async (context: readonly number[], temperature = 1) =>
    (await prober.rows({ context, drafts: [], top, temperature })).rows[0]!;
  const reference: BaseRow[] = [];
  for (const context of contexts) {
    reference.push(
      await ask(context).catch((error: Error) => {
        throw new Error(`it gives no ${top} log-probabilities (${error.message}). ${topRemedy}`, {
          cause: error,
        });
      }),
    );
  }
  checkTemperature(reference[0]!, await ask(contexts[0]!, 2));
  const together = await Promise.all(
    [...contexts, ...contexts.toReversed()].map((context) => ask(context)),
  );
  const expectedRows = [...reference, ...reference.toReversed()];
  for (const [i, row] of together.entries()) {
    if (difference(row, expectedRows[i]!) <= TOLERANCE) continue;
    throw new Error(
      "requests that run at the same time get each other's log-probabilities, or other ones than alone. Upgrade the server, or set concurrency to 1",
    );
  }
  warnings.push(...(await checkPrefixCache(prober, expected)));
  return { reference, warnings };
}

/** Whether a base still gives the rows that it gave. */
export async function isSame(
  prober: Prober,
  reference: readonly BaseRow[],
  top: number,
): Promise<boolean> {
  const [first] = reference;
  for (const [i, context] of probeContexts(first!.vocabSize).entries()) {
    const { rows } = await prober.rows({ context, drafts: [], top, temperature: 1 });
    if (difference(rows[0]!, reference[i]!) > TOLERANCE) return false;
  }
  return true;
}

/** Largest difference of the most likely tokens, in nats. */
function difference(row: BaseRow, other: BaseRow): number {
  let largest = 0;
  for (const [id, logprob] of [...other.seen].slice(0, COMPARED)) {
    const value = row.seen.get(id);
    if (value === undefined) return Number.POSITIVE_INFINITY;
    largest = Math.max(largest, Math.abs(value - logprob));
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

async function compareTokenizers(
  prober: Prober,
  { encode, specialTexts }: Expected,
): Promise<string[]> {
  for (const text of [...TEXTS, ...specialTexts]) {
    const own = encode(text);
    if (own === null) continue;
    const theirs = await prober.tokenize(text);
    if (theirs === null) {
      return ["its tokenizer cannot be compared, because it has no route for it"];
    }
    if (own.join() === theirs.join()) continue;
    throw new Error(
      `its tokenizer makes [${theirs.slice(0, 8).join(", ")}] of ${JSON.stringify(text)}, and the one in the manifest [${own.slice(0, 8).join(", ")}]. Use the tokenizer files of the model that it serves`,
    );
  }
  return [];
}

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
