/** From samples to rows and ratios. */
import { statSync } from "node:fs";
import { join } from "node:path";
import { readConfig } from "../../worker/model/files.ts";
import { readFileSync } from "node:fs";
import { ROLES, type Family } from "./models/family.ts";
import type { Case, Dtype } from "./plan.ts";
import type { Measured } from "./rounds.ts";
import { figure, type Figure } from "./statistics.ts";
import type { Sample } from "./subjects/subject.ts";

export interface Row extends Case {
  /** Milliseconds per token; of a batch, a step's time over its rows. */
  readonly tokenMs: Figure | null;
  readonly tokensPerSecond: Figure | null;
  readonly firstTokenMs: Figure | null;
  readonly prefillTokensPerSecond: Figure | null;
  /** Fraction of drafted tokens that were right. */
  readonly acceptance: number | null;
  /** Time to read the weights and cache that one token needs, once, at the measured bandwidth. */
  readonly floorMs: number;
  readonly reason: string | null;
}

export const tokenMs = ({ decodeMs, decodedTokens }: Sample) => decodeMs / decodedTokens;

export function rowOf(
  { case: one, samples, reason }: Measured,
  folders: Family,
  bandwidth: number,
): Row {
  const drafted = samples.reduce((sum, sample) => sum + sample.drafted, 0);
  const accepted = samples.reduce((sum, sample) => sum + sample.accepted, 0);
  const firsts = samples.flatMap(({ firstTokenMs }) => firstTokenMs ?? []);
  return {
    ...one,
    tokenMs: figure(samples.map(tokenMs)),
    tokensPerSecond: figure(samples.map((sample) => 1000 / tokenMs(sample))),
    firstTokenMs: figure(firsts),
    prefillTokensPerSecond: figure(firsts.map((ms) => one.context / (ms / 1000))),
    acceptance: drafted === 0 ? null : accepted / drafted,
    floorMs: (bytesPerToken(one, folders) / bandwidth) * 1000,
    reason,
  };
}

/** Bytes of weights, shared by a batch, and of cache, of each row, that decoding reads for a token. */
function bytesPerToken({ mode, dtype, context, batch }: Case, folders: Family): number {
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
    // Of the embedding one row is read; in fp32 the same table is also the output matrix.
    const unread = dtype === "fp32" ? 0 : config["vocab_size"]! * config["hidden_size"]! * 4;
    const cache = config["num_hidden_layers"]! * 2 * kvHeads * headDim * 4 * context;
    bytes += (weights - unread) / batch + cache;
  }
  return bytes;
}

/** Rounds of `of` over the same rounds of `by`. */
function paired(all: readonly Measured[], of: Partial<Case>, by: Partial<Case>): Figure | null {
  const [a, b] = [samplesOf(all, of), samplesOf(all, by)];
  return figure(a.slice(0, b.length).map((sample, i) => tokenMs(sample) / tokenMs(b[i]!)));
}

function samplesOf(all: readonly Measured[], wanted: Partial<Case>): readonly Sample[] {
  const found = all.find(({ case: one }) =>
    Object.entries(wanted).every(([key, value]) => one[key as keyof Case] === value),
  );
  return found?.samples ?? [];
}

const PAIRS: Record<string, readonly [of: Partial<Case>, by: Partial<Case>]> = {
  ...Object.fromEntries(
    [128, 1024].map((context) => [
      `proxy_vs_transformersjs_${context}`,
      [
        { engine: "transformers", mode: "base", context, batch: 1 },
        { engine: "ours", mode: "proxy", context, batch: 1 },
      ],
    ]),
  ),
  proxy_speculative_vs_base_only: [
    { engine: "ours", mode: "base", context: 128, batch: 1 },
    { engine: "ours", mode: "speculative", context: 128, batch: 1 },
  ],
  batch8_vs_batch1: [
    { engine: "ours", mode: "proxy", context: 128, batch: 1 },
    { engine: "ours", mode: "proxy", context: 128, batch: 8 },
  ],
};

/** Speed ratios, above 1 if ours (or the newer thing) is faster; each by format, and plain: both sides at their best one. */
export function ratiosOf(
  all: readonly Measured[],
  dtypes: readonly Dtype[],
): Record<string, Figure | null> {
  const ratios: Record<string, Figure | null> = {};
  for (const [name, [of, by]] of Object.entries(PAIRS)) {
    const best = (wanted: Partial<Case>): Partial<Case> => {
      const medians = dtypes.map(
        (dtype) => figure(samplesOf(all, { ...wanted, dtype }).map(tokenMs))?.median ?? Infinity,
      );
      return { ...wanted, dtype: dtypes[medians.indexOf(Math.min(...medians))]! };
    };
    ratios[name] = paired(all, best(of), best(by));
    for (const dtype of dtypes)
      ratios[`${name}_${dtype}`] = paired(all, { ...of, dtype }, { ...by, dtype });
  }
  return ratios;
}
