/**
 * Replays golden vectors (README.md) through the worker's decode loop and measures the differences.
 * `npm run golden -- DIR...` also checks vectors that are not in the repository.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { SessionOptions } from "../../worker/engine/decoder/session.ts";
import { Output } from "../../worker/engine/decode/output.ts";
import { Sampler } from "../../worker/engine/decode/sampler.ts";
import { generate } from "../../worker/engine/loop/generate.ts";
import type { Models } from "../../worker/engine/model/ensemble.ts";
import type { Prompts } from "../../worker/engine/model/ensemble-tokenizers.ts";
import { loadDecoder } from "../../worker/engine/model/model-folder.ts";
import type { GenerateRequest } from "../../worker/engine/loop/sequence.ts";
import { sampling } from "../support/sampling.ts";

interface GoldenFile {
  readonly vocabSize: number;
  readonly eos: number | null;
  readonly logits: { readonly file: string; readonly width: number } | null;
  readonly cases: readonly {
    readonly name: string;
    readonly prompts: Prompts;
    readonly alpha: number;
    readonly tokens: readonly number[];
    readonly logitsRow: number;
  }[];
}

export interface GoldenResult {
  readonly name: string;
  readonly expected: readonly number[];
  readonly tokens: readonly number[];
  /** Largest |difference| of a steered logit over all steps; null if the vectors contain only tokens. */
  readonly logitsDifference: number | null;
  /** Largest |difference| of a steered log-probability if the tokens are scored instead of generated. */
  readonly scoreDifference: number | null;
}

/** Paths of the three models. By default they are beside cases.json. */
export type ModelFolders = Record<"base" | "expert" | "antiexpert", string>;

/** Folders with golden vectors, one level below `root`. */
export function goldenFolders(root: string): string[] {
  return readdirSync(root)
    .filter((name) => existsSync(join(root, name, "cases.json")))
    .map((name) => join(root, name));
}

/** Generates and scores the tokens of every case of a folder. */
export async function replay(
  folder: string,
  folders: ModelFolders = {
    base: join(folder, "base"),
    expert: join(folder, "expert"),
    antiexpert: join(folder, "antiexpert"),
  },
  changes: Partial<SessionOptions> = {},
): Promise<GoldenResult[]> {
  const golden = JSON.parse(readFileSync(join(folder, "cases.json"), "utf8")) as GoldenFile;
  const logits = golden.logits && readFloats(join(folder, golden.logits.file));
  const options = { dtype: "fp32", intraOpThreads: 1, ...changes } as const;
  const models: Models = {
    base: await loadDecoder(folders.base, options),
    expert: await loadDecoder(folders.expert, options),
    antiexpert: await loadDecoder(folders.antiexpert, options),
    vocabSize: golden.vocabSize,
  };
  const results: GoldenResult[] = [];
  for (const { name, prompts, alpha, tokens: expected, logitsRow } of golden.cases) {
    const request = (forcedTokens?: readonly number[]): GenerateRequest => ({
      models,
      prompts,
      alpha,
      resume: [],
      sampler: new Sampler(sampling({ temperature: 0 }), prompts.base),
      output: new Output({
        decode: () => "",
        stop: [],
        eosIds: new Set(golden.eos === null ? [] : [golden.eos]),
        maxTokens: expected.length,
      }),
      ...(forcedTokens && { forcedTokens, analysis: { logprobs: 0, trace: false } }),
    });
    const expectedLogits = (position: number) => {
      const start = (logitsRow + position) * golden.vocabSize;
      return logits?.subarray(start, start + golden.vocabSize) ?? [];
    };
    const tokens: number[] = [];
    let difference = 0;
    // With drafts a step has several tokens, and only the logits of the last one are left.
    for await (const { token, sequence } of generate(request(), { speculate: false })) {
      for (const [i, expected] of expectedLogits(tokens.length).entries()) {
        difference = Math.max(difference, Math.abs(sequence.logits[i]! - expected));
      }
      tokens.push(token);
    }
    let scoreDifference = 0;
    let position = 0;
    for await (const { token, analysis } of generate(request(expected))) {
      const row = [...expectedLogits(position++)];
      const expected = row[token]! - Math.log(row.reduce((sum, l) => sum + Math.exp(l), 0));
      const difference = Math.abs(analysis!.logprobs!.logprob - expected);
      if (logits) scoreDifference = Math.max(scoreDifference, difference);
    }
    results.push({
      name,
      expected,
      tokens,
      logitsDifference: logits ? difference : null,
      scoreDifference: logits && position === expected.length ? scoreDifference : null,
    });
  }
  return results;
}

function readFloats(file: string): Float32Array {
  const bytes = readFileSync(file);
  return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
}

if (import.meta.main) {
  for (const root of process.argv.slice(2)) {
    const folders = existsSync(join(root, "cases.json")) ? [root] : goldenFolders(root);
    if (folders.length === 0) console.log(`--   ${root}: no cases.json in this folder or one level below`);
    for (const folder of folders) await check(folder);
  }
}

async function check(folder: string): Promise<void> {
  if (!existsSync(join(folder, "base"))) {
    console.log(`--   ${folder}: skipped, its models are in another folder (README.md)`);
    return;
  }
  for (const { name, expected, tokens, logitsDifference, scoreDifference } of await replay(folder)) {
    const equal = expected.every((token, i) => token === tokens[i]);
    const difference = Math.max(logitsDifference ?? 0, scoreDifference ?? 0);
    const verdict = equal && difference <= 1e-3 ? "ok  " : "FAIL";
    if (verdict === "FAIL") process.exitCode = 1;
    console.log(`${verdict} ${folder} ${name}: logits differ by ${logitsDifference ?? "?"}`);
  }
}
