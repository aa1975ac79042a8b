/**
 * `npm run bench:remote`: the demo base inflated to 98M parameters behind a real llama.cpp server. Steered tokens per second
 * beside the base's own stream and beside one call per token, with added latency and with several jobs at once.
 *
 *     npm run bench:remote -- --latency 0,20,100 --jobs 1,8,32 --tokens 48 --json FILE
 *
 * Times on a busy machine mean nothing; calls and bytes per token still do. The file has the targets, and whether they were met.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { stopOnInterrupt } from "../../infra/stack/interrupt.ts";
import { stopAllChildren } from "../../infra/stack/process.ts";
import { errorText } from "../../infra/stack/user-error.ts";
import { Batch } from "../../worker/engine/loop/batch.ts";
import { totalDrafts, type RemoteCounts } from "../../worker/engine-client/messages.ts";
import type { ForcedDrafter } from "../../worker/engine/loop/remote-policy.ts";
import type { Models } from "../../worker/engine/model/ensemble.ts";
import { llamaCpp } from "../../worker/engine/remote/apis/llama-cpp.ts";
import { Connection } from "../../worker/engine/remote/connection.ts";
import { RemoteBase } from "../../worker/engine/remote/remote-base.ts";
import { RemoteDecoder } from "../../worker/engine/remote/remote-decoder.ts";
import { family } from "../bench/models/family.ts";
import { benchPrompt } from "../bench/prompts.ts";
import { DEMO_VOCAB, demoModels, demoRequest } from "../support/base-server/demo.ts";
import { startLatency } from "./latency.ts";
import { startLlamaServer } from "./llama-server.ts";
import { ratedTargets, type Measured } from "./targets.ts";

const PROMPT_TOKENS = 100;
const WARM_UP_TOKENS = 24;
const SLOTS = 40;
/** A logit bias against the end token, so that every job has as many tokens. */
const NO_END = [0, -1_000] as const;

stopOnInterrupt();
const { values: args } = parseArgs({
  options: {
    latency: { type: "string", default: "0,20,100" },
    jobs: { type: "string", default: "1,8,32" },
    tokens: { type: "string", default: "48" },
    top: { type: "string", default: "48" },
    temperature: { type: "string", default: "0,0.7" },
    drafter: { type: "string" },
    json: { type: "string" },
  },
});
const numbers = (list: string) => list.split(",").map(Number);
const tokensMax = Number(args.tokens);
const results: Measured[] = [];
try {
  const model = join(family("inflated").base, "llama-fp32.gguf");
  const contextTokens = PROMPT_TOKENS + tokensMax + 32;
  const url = await startLlamaServer({ model, slots: SLOTS, contextTokens });
  const models = await demoModels();
  for (const latencyMs of numbers(args.latency)) {
    const slow = await startLatency(url, latencyMs);
    for (const jobs of numbers(args.jobs)) {
      // The first run computes the prompts, which are then in the server's cache.
      await ownStream(slow.url, latencyMs, jobs);
      report(await ownStream(slow.url, latencyMs, jobs));
      for (const temperature of numbers(args.temperature)) {
        for (const speculate of [false, true]) {
          report(await steered(models, slow.url, { latencyMs, jobs, temperature, speculate }));
        }
      }
    }
    await slow.close();
  }
  const targets = ratedTargets(results);
  for (const { name, measured, limit, isMet } of targets) {
    console.log(`${isMet ? "met   " : "missed"} ${name}: ${measured.toFixed(2)} (${limit})`);
  }
  if (args.json) writeFileSync(args.json, JSON.stringify({ results, targets }, null, 2));
} catch (error) {
  console.error(errorText(error));
  process.exitCode = 1;
} finally {
  await stopAllChildren();
}
process.exit();

/** Clients that stream the base alone, without log-probabilities. */
async function ownStream(url: string, latencyMs: number, jobs: number): Promise<Measured> {
  const stream = async (index: number) => {
    const response = await fetch(`${url}/completion`, {
      method: "POST",
      body: JSON.stringify({
        prompt: benchPrompt(PROMPT_TOKENS, index),
        n_predict: tokensMax,
        temperature: 0,
        ignore_eos: true,
        stream: true,
      }),
    });
    await response.text();
  };
  const startedMs = performance.now();
  await Promise.all(Array.from({ length: jobs }, (_, i) => stream(i)));
  const seconds = (performance.now() - startedMs) / 1000;
  const tokensPerSecond = (jobs * tokensMax) / seconds;
  return { name: "base alone, streamed", latencyMs, jobs, temperature: 0, tokensPerSecond };
}

interface Setting {
  readonly latencyMs: number;
  readonly jobs: number;
  readonly temperature: number;
  readonly speculate: boolean;
}

/** Steered jobs in one batch; without drafts, one call gives one token. */
async function steered(
  models: Models,
  url: string,
  { latencyMs, jobs, temperature, speculate }: Setting,
): Promise<Measured> {
  const connection = new Connection({
    url,
    name: "bench",
    key: () => null,
    concurrency: 64,
    timeoutMs: 60_000,
    patienceMs: 10_000,
  });
  const base = new RemoteBase({
    api: llamaCpp(),
    connection,
    name: "bench",
    vocabSize: DEMO_VOCAB,
    top: Number(args.top),
    rowsMax: 8,
  });
  const remote = { ...models, base: new RemoteDecoder(base) };
  const drafter = args.drafter as ForcedDrafter | undefined;
  const batch = new Batch({ speculate, ...(drafter && { drafter }) });
  const add = (index: number, maxTokens: number) => {
    const sampling = { temperature, seed: index, logitBias: [NO_END] };
    const prompt = benchPrompt(PROMPT_TOKENS, index);
    return batch.add(demoRequest(remote, { prompt, sampling, maxTokens, changes: {} }))!;
  };
  // A worker knows the times of a base from earlier jobs.
  add(jobs, WARM_UP_TOKENS);
  await run(batch);
  const sequences = Array.from({ length: jobs }, (_, i) => add(i, tokensMax));
  const counts = sequences.map((sequence) => sequence.remote!);
  const startedMs = performance.now();
  const tokens = await run(batch);
  const seconds = (performance.now() - startedMs) / 1000;
  await base.close();
  const sum = (of: (count: RemoteCounts) => number) =>
    counts.reduce((total, count) => total + of(count), 0);
  const drafts = sequences.map((sequence) => totalDrafts(sequence.drafts));
  const drafted = drafts.reduce((total, one) => total + one.drafted, 0);
  const accepted = drafts.reduce((total, one) => total + one.accepted, 0);
  return {
    name: speculate ? "steered" : "steered, one call per token",
    latencyMs,
    jobs,
    temperature,
    tokensPerSecond: tokens / seconds,
    callsPerToken: sum(({ calls }) => calls) / tokens,
    askedPerToken: sum(({ asked }) => asked) / tokens,
    bytesPerToken: sum(({ bytes }) => bytes) / tokens,
    ...(drafted > 0 && { acceptedShare: accepted / drafted }),
    reasons: reasonsPerToken(counts, tokens),
  };
}

/** Calls for each token by their reason, the most frequent one first. */
function reasonsPerToken(counts: readonly RemoteCounts[], tokens: number): Record<string, number> {
  const totals: Record<string, number> = {};
  for (const [reason, calls] of counts.flatMap(({ reasons }) => Object.entries(reasons))) {
    totals[reason] = (totals[reason] ?? 0) + calls / tokens;
  }
  return Object.fromEntries(Object.entries(totals).toSorted(([, a], [, b]) => b - a));
}

/** Returns the count of tokens. */
async function run(batch: Batch): Promise<number> {
  let tokens = 0;
  while (batch.size > 0) {
    if (await batch.ready()) continue;
    for (const step of await batch.step()) {
      if ("error" in step) throw step.error;
      tokens++;
    }
  }
  return tokens;
}

function report(measured: Measured): void {
  results.push(measured);
  const { name, latencyMs, jobs, temperature, tokensPerSecond } = measured;
  const { callsPerToken, askedPerToken = 0, bytesPerToken, acceptedShare, reasons } = measured;
  const details =
    callsPerToken === undefined
      ? ""
      : `${callsPerToken.toFixed(2)} calls (${askedPerToken.toFixed(2)} asked again) and ${(bytesPerToken! / 1000).toFixed(1)} kB per token${acceptedShare === undefined ? "" : `, ${Math.round(acceptedShare * 100)}% of drafts accepted`}`;
  console.log(
    `${String(latencyMs).padStart(4)} ms, ${String(jobs).padStart(2)} jobs, temperature ${temperature}: ${name.padEnd(28)} ${tokensPerSecond.toFixed(1).padStart(6)} tokens/s  ${details}`,
  );
  if (!reasons) return;
  const parts = Object.entries(reasons).map(([reason, calls]) => `${reason} ${calls.toFixed(2)}`);
  console.log(`${" ".repeat(8)}calls per token by reason: ${parts.join(", ")}`);
}
