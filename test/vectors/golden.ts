/**
 * Replays golden vectors (README.md) through the worker's own loop and measures how far they differ.
 * `node test/vectors/golden.ts DIR...` checks ensembles that are not in the repo, too.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Output } from "../../worker/decode/output.ts";
import { Sampler } from "../../worker/decode/sampler.ts";
import { generate } from "../../worker/generate.ts";
import type { Models, Prompts } from "../../worker/parts.ts";
import { loadDecoder } from "../../worker/model/files.ts";
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
  /** Largest |difference| of a steered logit over all steps; null if the vectors have tokens only. */
  readonly logitsDifference: number | null;
  /** Largest |difference| of a steered log-probability, the tokens being scored instead of generated. */
  readonly scoreDifference: number | null;
}

/** Where the model folders are: beside cases.json, or elsewhere for vectors of models kept elsewhere. */
export type ModelFolders = Record<"base" | "expert" | "antiexpert", string>;

export function goldenFolders(root: string): string[] {
  return readdirSync(root)
    .filter((name) => existsSync(join(root, name, "cases.json")))
    .map((name) => join(root, name));
}

export async function replay(
  folder: string,
  folders: ModelFolders = {
    base: join(folder, "base"),
    expert: join(folder, "expert"),
    antiexpert: join(folder, "antiexpert"),
  },
): Promise<GoldenResult[]> {
  const golden = JSON.parse(readFileSync(join(folder, "cases.json"), "utf8")) as GoldenFile;
  const rows = golden.logits && readFloats(join(folder, golden.logits.file));
  const options = { dtype: "fp32", intraOpThreads: 1 } as const;
  const models: Models = {
    base: await loadDecoder(folders.base, options),
    expert: await loadDecoder(folders.expert, options),
    antiexpert: await loadDecoder(folders.antiexpert, options),
    vocabSize: golden.vocabSize,
  };
  const results: GoldenResult[] = [];
  for (const { name, prompts, alpha, tokens: expected, logitsRow } of golden.cases) {
    const request = (forced?: readonly number[]) => ({
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
      ...(forced && { forced, report: { logprobs: 0, trace: false } }),
    });
    const rowAt = (position: number) => {
      const start = (logitsRow + position) * golden.vocabSize;
      return rows?.subarray(start, start + golden.vocabSize) ?? [];
    };
    const tokens: number[] = [];
    let difference = 0;
    // Drafts would overwrite the logits of all but the last token of a step.
    for await (const { token, row: step } of generate(request(), { speculate: false })) {
      for (const [i, expected] of rowAt(tokens.length).entries()) {
        difference = Math.max(difference, Math.abs(step.logits[i]! - expected));
      }
      tokens.push(token);
    }
    let scoreDifference = 0;
    let position = 0;
    for await (const { token, report } of generate(request(expected))) {
      const logits = [...rowAt(position++)];
      const expected = logits[token]! - Math.log(logits.reduce((sum, l) => sum + Math.exp(l), 0));
      const difference = Math.abs(report!.logprobs!.logprob - expected);
      if (rows) scoreDifference = Math.max(scoreDifference, difference);
    }
    results.push({
      name,
      expected,
      tokens,
      logitsDifference: rows ? difference : null,
      scoreDifference: rows && position === expected.length ? scoreDifference : null,
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
    if (folders.length === 0) console.log(`--   ${root}: no cases.json here nor one level down`);
    for (const folder of folders) await check(folder);
  }
}

async function check(folder: string): Promise<void> {
  if (!existsSync(join(folder, "base"))) {
    console.log(`--   ${folder}: not checked, its models are elsewhere (README.md)`);
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
