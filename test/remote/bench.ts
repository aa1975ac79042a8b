/**
 * `npm run bench:remote`: the demo base inflated to 98M parameters behind a real llama.cpp server. Steered tokens per second
 * beside the base's own stream and beside one call per token, with added latency and with several jobs at once. Then the time of
 * a local job's token beside jobs whose base does not answer.
 *
 *     npm run bench:remote -- --latency 0,20,100 --jobs 1,8,32 --text replies --rounds 2 --json FILE
 *
 * The settings of one latency and one count of jobs take turns, so that what else the machine does has a part in each of them.
 * Text: `replies` are the demo family's own, with their ends. `long` ones have no end: after the reply the models say what they were
 * never trained for, and drafts are seldom right. Times on a busy machine mean nothing; calls and bytes per token still do. The file
 * has the targets, and whether they were met.
 */
import { writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { parseArgs } from "node:util";
import { stopOnInterrupt } from "../../infra/stack/interrupt.ts";
import { stopAllChildren } from "../../infra/stack/process.ts";
import { errorText } from "../../infra/stack/user-error.ts";
import { Batch } from "../../worker/engine/loop/batch.ts";
import { totalDrafts, type RemoteCounts } from "../../worker/engine-client/messages.ts";
import type { ForcedDrafter } from "../../worker/engine/loop/remote-policy.ts";
import type { Sequence } from "../../worker/engine/loop/sequence.ts";
import type { Models } from "../../worker/engine/model/ensemble.ts";
import { llamaCpp } from "../../worker/engine/remote/apis/llama-cpp.ts";
import { Connection } from "../../worker/engine/remote/connection.ts";
import { RemoteBase } from "../../worker/engine/remote/remote-base.ts";
import { RemoteDecoder } from "../../worker/engine/remote/remote-decoder.ts";
import { ggufFile } from "../bench/models/family.ts";
import { printTargets } from "../bench/rated-target.ts";
import { benchPrompt } from "../bench/prompts.ts";
import { summarize } from "../bench/statistics.ts";
import { DEMO_VOCAB, demoModels, demoRequest } from "../support/base-server/demo.ts";
import { startLatency } from "./latency.ts";
import { startLlamaServer } from "./llama-server.ts";
import { ratedTargets, type Measured } from "./targets.ts";

const PROMPT_TOKENS = 100;
const WARM_UP_JOBS = 3;
const BESIDE_ROUNDS = 3;
const WARM_UP_TOKENS = 16;
const SLOTS = 40;
const ROWS_MAX = 8;
/** With fewer jobs at once, some run in turn. */
const JOBS_MIN = 8;
/** A logit bias against the end token, so that every job has as many tokens. */
const NO_END = [0, -1_000] as const;

stopOnInterrupt();
const { values: args } = parseArgs({
  options: {
    latency: { type: "string", default: "0,20,100" },
    jobs: { type: "string", default: "1,8,32" },
    text: { type: "string", default: "replies" },
    tokens: { type: "string", default: "48" },
    top: { type: "string", default: "64" },
    temperature: { type: "string", default: "0,0.7" },
    drafter: { type: "string" },
    rounds: { type: "string", default: "2" },
    json: { type: "string" },
  },
});
const numbers = (list: string) => list.split(",").map(Number);
const tokensMax = Number(args.tokens);
const results: Measured[] = [];
/** Index of the latest prompt that only one job has. */
let newPrompts = 100;
try {
  const model = ggufFile("inflated", "fp32");
  const contextTokens = PROMPT_TOKENS + tokensMax + 32;
  const { url } = await startLlamaServer({ model, slots: SLOTS, contextTokens });
  const models = await demoModels();
  const jobsMax = Math.max(JOBS_MIN, ...numbers(args.jobs));
  const lengths = await localLengths(models, jobsMax);
  // Computes the prompts, which are then in the server's cache.
  await ownStream(url, { latencyMs: 0, jobs: jobsMax, lengths });
  for (const latencyMs of numbers(args.latency)) {
    const slow = await startLatency(url, latencyMs);
    for (const jobs of numbers(args.jobs)) {
      const base = remoteBase(slow.url, jobs);
      const remote = { ...models, base: new RemoteDecoder(base) };
      const batches = [new Batch({ speculate: false }), await warmedUp(remote)];
      const runs = [() => ownStream(slow.url, { latencyMs, jobs, lengths })];
      for (const temperature of numbers(args.temperature)) {
        for (const [i, batch] of batches.entries()) {
          const setting = { latencyMs, jobs, temperature, speculate: i > 0 };
          runs.push(() => steered(batch, remote, setting));
        }
      }
      const measured = runs.map((): Measured[] => []);
      for (let round = 0; round < Number(args.rounds); round++) {
        for (const [i, run] of runs.entries()) measured[i]!.push(await run());
      }
      for (const rounds of measured) report(mean(rounds));
      await base.close();
    }
    await slow.close();
  }
  const beside = await besideSilentBase(models);
  console.log(
    `a local job: ${beside.aloneMs.toFixed(1)} ms per token alone, ${beside.besideMs.toFixed(1)} beside ${beside.jobs} jobs whose base does not answer`,
  );
  const targets = ratedTargets(results);
  printTargets(targets);
  if (args.json) writeFileSync(args.json, JSON.stringify({ results, targets, beside }, null, 2));
} catch (error) {
  console.error(errorText(error));
  process.exitCode = 1;
} finally {
  await stopAllChildren();
}
process.exit();

/** Runs each job of the queue, so many at once. */
async function inTurns(
  count: number,
  atOnce: number,
  job: (index: number) => Promise<void>,
): Promise<void> {
  let next = 0;
  const client = async () => {
    while (next < count) await job(next++);
  };
  await Promise.all(Array.from({ length: atOnce }, client));
}

/** Clients that stream the base alone, without log-probabilities. */
async function ownStream(
  url: string,
  { latencyMs, jobs, lengths }: { latencyMs: number; jobs: number; lengths: readonly number[] },
): Promise<Measured> {
  const count = Math.max(JOBS_MIN, jobs);
  const startedMs = performance.now();
  await inTurns(count, jobs, async (index) => {
    const response = await fetch(`${url}/completion`, {
      method: "POST",
      body: JSON.stringify({
        prompt: benchPrompt(PROMPT_TOKENS, index),
        n_predict: lengths[index],
        temperature: 0,
        ignore_eos: true,
        stream: true,
      }),
    });
    await response.text();
  });
  const seconds = (performance.now() - startedMs) / 1000;
  const tokens = lengths.slice(0, count).reduce((sum, length) => sum + length, 0);
  const tokensPerSecond = tokens / seconds;
  return { name: "base alone, streamed", latencyMs, jobs, temperature: 0, tokensPerSecond };
}

/** Tokens of each job's greedy text. */
async function localLengths(models: Models, jobs: number): Promise<number[]> {
  const batch = new Batch({ speculate: false });
  const sequences = Array.from({ length: jobs }, (_, i) => batch.add(requestOf(models, i, 0))!);
  await run(batch);
  return sequences.map(({ tokens }) => tokens.length);
}

/** A local job of 48 tokens, by itself and beside jobs that wait for a server which takes calls and never answers. */
async function besideSilentBase(
  models: Models,
): Promise<{ jobs: number; aloneMs: number; besideMs: number }> {
  const silent = createServer(() => {});
  await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
  const jobs = 8;
  const base = remoteBase(`http://127.0.0.1:${(silent.address() as AddressInfo).port}`, jobs);
  const remote = { ...models, base: new RemoteDecoder(base) };
  const msPerToken = async (others: number) => {
    const batch = new Batch({ speculate: false });
    const waiting = Array.from({ length: others }, (_, i) => batch.add(requestOf(remote, i, 0))!);
    const sampling = { temperature: 0, logitBias: [NO_END] };
    const prompt = benchPrompt(PROMPT_TOKENS, jobs);
    const local = batch.add(
      demoRequest(models, { prompt, sampling, maxTokens: tokensMax, changes: {} }),
    )!;
    const stepMs: number[] = [];
    while (local.tokens.length < tokensMax) {
      const startedMs = performance.now();
      const steps = await batch.step();
      // The first ones prefill the prompts of all.
      if (steps.length > 0 && local.tokens.length > tokensMax / 2) {
        stepMs.push(performance.now() - startedMs);
      }
    }
    for (const sequence of waiting) batch.remove(sequence);
    return stepMs;
  };
  const [alone, beside]: [number[], number[]] = [[], []];
  for (let round = 0; round < BESIDE_ROUNDS; round++) {
    alone.push(...(await msPerToken(0)));
    beside.push(...(await msPerToken(jobs)));
  }
  const result = { jobs, aloneMs: summarize(alone)!.median, besideMs: summarize(beside)!.median };
  await base.close();
  silent.closeAllConnections();
  silent.close();
  return result;
}

function requestOf(models: Models, index: number, temperature: number, maxTokens = tokensMax) {
  const logitBias = args.text === "long" ? [NO_END] : [];
  const sampling = { temperature, seed: index, logitBias };
  const prompt = benchPrompt(PROMPT_TOKENS, index);
  return demoRequest(models, { prompt, sampling, maxTokens, changes: {} });
}

/** The jobs share the server's slots, as those of a worker do. */
function remoteBase(url: string, jobs: number): RemoteBase {
  const connection = new Connection({
    url,
    name: "bench",
    key: () => null,
    concurrency: 64,
    timeoutMs: 300_000,
    patienceMs: 10_000,
  });
  return new RemoteBase({
    api: llamaCpp(),
    connection,
    name: "bench",
    vocabSize: DEMO_VOCAB,
    top: Number(args.top),
    rowsMax: Math.max(1, Math.min(ROWS_MAX, Math.floor(SLOTS / jobs))),
  });
}

/** Of the same jobs in several rounds. */
function mean(rounds: readonly Measured[]): Measured {
  const [first] = rounds as [Measured];
  const of = (value: (one: Measured) => number | undefined) =>
    rounds.reduce((sum, one) => sum + (value(one) ?? 0), 0) / rounds.length;
  const tokensPerSecond = 1 / of((one) => 1 / one.tokensPerSecond);
  if (!first.reasons) return { ...first, tokensPerSecond };
  const names = new Set(rounds.flatMap(({ reasons = {} }) => Object.keys(reasons)));
  return {
    ...first,
    tokensPerSecond,
    callsPerToken: of(({ callsPerToken }) => callsPerToken),
    askedPerToken: of(({ askedPerToken }) => askedPerToken),
    bytesPerToken: of(({ bytesPerToken }) => bytesPerToken),
    ...(first.acceptedShare !== undefined && {
      acceptedShare: of(({ acceptedShare }) => acceptedShare),
    }),
    reasons: Object.fromEntries([...names].map((name) => [name, of((one) => one.reasons?.[name])])),
  };
}

interface Setting {
  readonly latencyMs: number;
  readonly jobs: number;
  readonly temperature: number;
  readonly speculate: boolean;
}

/** A batch that knows the times of the base, and how often drafts are right, from earlier jobs, as that of a worker does. */
async function warmedUp(remote: Models): Promise<Batch> {
  const drafter = args.drafter as ForcedDrafter | undefined;
  const batch = new Batch({ speculate: true, ...(drafter && { drafter }) });
  for (let i = 0; i < WARM_UP_JOBS; i++) {
    // The first prompt is in no cache: its call tells what prompts cost.
    const index = i === 0 ? ++newPrompts : i;
    batch.add(requestOf(remote, index, 0, WARM_UP_TOKENS));
    await run(batch);
  }
  return batch;
}

/** Steered jobs in one batch; without drafts, one call gives one token. */
async function steered(
  batch: Batch,
  remote: Models,
  { latencyMs, jobs, temperature, speculate }: Setting,
): Promise<Measured> {
  const sequences: Sequence[] = [];
  const count = Math.max(JOBS_MIN, jobs);
  const startedMs = performance.now();
  let tokens = 0;
  while (sequences.length < count || batch.size > 0) {
    while (sequences.length < count && batch.size < jobs) {
      sequences.push(batch.add(requestOf(remote, sequences.length, temperature))!);
    }
    tokens += await step(batch);
  }
  const seconds = (performance.now() - startedMs) / 1000;
  const counts = sequences.map(({ remote: own }) => own!);
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

async function run(batch: Batch): Promise<void> {
  while (batch.size > 0) await step(batch);
}

/** Returns the count of tokens. */
async function step(batch: Batch): Promise<number> {
  if (await batch.ready()) return 0;
  const steps = await batch.step();
  for (const one of steps) if ("error" in one) throw one.error;
  return steps.length;
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
