/** Computes table rows and speed ratios from the samples of a run. */
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { readConfig } from "../../worker/engine/model/model-config.ts";
import { ROLES, type Family } from "./models/family.ts";
import type { BenchCase, Dtype } from "./plan.ts";
import type { CaseSamples } from "./rounds.ts";
import { summarize, type Summary } from "./statistics.ts";
import type { Sample } from "./engines/engine.ts";

export interface ResultRow extends BenchCase {
  /** Milliseconds per token; for a batch, the time of a step divided by its sequences. */
  readonly tokenMs: Summary | null;
  readonly tokensPerSecond: Summary | null;
  readonly firstTokenMs: Summary | null;
  readonly prefillTokensPerSecond: Summary | null;
  /** Accepted drafts divided by drafted tokens; null without drafts. */
  readonly acceptance: number | null;
  /** Time to read the weights and the KV cache for one token once, at the measured memory bandwidth. */
  readonly memoryBoundMs: number;
  /** Why the case was not measured; null if it was. */
  readonly reason: string | null;
}

const tokenMs = ({ decodeMs, decodedTokens }: Sample) => decodeMs / decodedTokens;

export function resultRow(
  { case: benchCase, samples, reason }: CaseSamples,
  folders: Family,
  bandwidthBytesPerSecond: number,
): ResultRow {
  const drafted = samples.reduce((sum, sample) => sum + sample.drafted, 0);
  const accepted = samples.reduce((sum, sample) => sum + sample.accepted, 0);
  const firstTokens = samples.flatMap(({ firstTokenMs }) => firstTokenMs ?? []);
  return {
    ...benchCase,
    tokenMs: summarize(samples.map(tokenMs)),
    tokensPerSecond: summarize(samples.map((sample) => 1000 / tokenMs(sample))),
    firstTokenMs: summarize(firstTokens),
    prefillTokensPerSecond: summarize(firstTokens.map((ms) => benchCase.context / (ms / 1000))),
    acceptance: drafted === 0 ? null : accepted / drafted,
    memoryBoundMs: (bytesPerToken(benchCase, folders) / bandwidthBytesPerSecond) * 1000,
    reason,
  };
}

/** Bytes that decoding reads for one token: the weights, divided by the batch, and the sequence's own KV cache. */
function bytesPerToken({ mode, dtype, context, batch }: BenchCase, folders: Family): number {
  const roles = mode === "base" ? (["base"] as const) : ROLES;
  let bytes = 0;
  for (const role of roles) {
    const config = JSON.parse(readFileSync(join(folders[role], "config.json"), "utf8")) as Record<
      string,
      number
    >;
    const { kvHeads, headDim } = readConfig(folders[role]);
    const file = dtype === "fp32" ? "model.onnx" : "model_quantized.onnx";
    const weights = statSync(join(folders[role], "onnx", file)).size;
    // Only one row of the embedding is read, except in fp32: there the same table is also the output matrix.
    const unread = dtype === "fp32" ? 0 : config["vocab_size"]! * config["hidden_size"]! * 4;
    const cache = config["num_hidden_layers"]! * 2 * kvHeads * headDim * 4 * context;
    bytes += (weights - unread) / batch + cache;
  }
  return bytes;
}

/** Time of a case divided by the time of another one in the same round, over all rounds. */
function pairedRatio(
  all: readonly CaseSamples[],
  numerator: Partial<BenchCase>,
  denominator: Partial<BenchCase>,
): Summary | null {
  const [a, b] = [findSamples(all, numerator), findSamples(all, denominator)];
  return summarize(a.slice(0, b.length).map((sample, i) => tokenMs(sample) / tokenMs(b[i]!)));
}

function findSamples(all: readonly CaseSamples[], wanted: Partial<BenchCase>): readonly Sample[] {
  const found = all.find(({ case: benchCase }) =>
    Object.entries(wanted).every(([key, value]) => benchCase[key as keyof BenchCase] === value),
  );
  return found?.samples ?? [];
}

/** Name of a ratio -> slower and faster case, as expected. */
const RATIOS: Record<
  string,
  readonly [numerator: Partial<BenchCase>, denominator: Partial<BenchCase>]
> = {
  ...Object.fromEntries(
    [128, 1024].map((context) => [
      `proxy_vs_transformersjs_${context}`,
      [
        { engine: "transformers", mode: "base", context, batch: 1 },
        { engine: "trimtab", mode: "proxy", context, batch: 1 },
      ],
    ]),
  ),
  proxy_speculative_vs_base_only: [
    { engine: "trimtab", mode: "base", context: 128, batch: 1 },
    { engine: "trimtab", mode: "speculative", context: 128, batch: 1 },
  ],
  batch8_vs_batch1: [
    { engine: "trimtab", mode: "proxy", context: 128, batch: 1 },
    { engine: "trimtab", mode: "proxy", context: 128, batch: 8 },
  ],
};

/**
 * Speed ratios, above 1 if trimtab (or the second case of `RATIOS`) is faster. Each is given for every weight format, and
 * without a format for the fastest format of each side.
 */
export function speedRatios(
  all: readonly CaseSamples[],
  dtypes: readonly Dtype[],
): Record<string, Summary | null> {
  const ratios: Record<string, Summary | null> = {};
  for (const [name, [numerator, denominator]] of Object.entries(RATIOS)) {
    const atFastestFormat = (wanted: Partial<BenchCase>): Partial<BenchCase> => {
      const medians = dtypes.map(
        (dtype) =>
          summarize(findSamples(all, { ...wanted, dtype }).map(tokenMs))?.median ?? Infinity,
      );
      return { ...wanted, dtype: dtypes[medians.indexOf(Math.min(...medians))]! };
    };
    ratios[name] = pairedRatio(all, atFastestFormat(numerator), atFastestFormat(denominator));
    for (const dtype of dtypes)
      ratios[`${name}_${dtype}`] = pairedRatio(
        all,
        { ...numerator, dtype },
        { ...denominator, dtype },
      );
  }
  return ratios;
}
