/**
 * Soak test: runs thousands of short jobs through the scheduler and measures whether steps get slower or memory grows. Jobs
 * differ in everything that could leave memory behind: shared and unique prompts, tenants, alpha, drafts, log-probabilities,
 * and how they end (end-of-sequence token, token limit, stopped).
 * `node --expose-gc soak.ts JOBS`; the result is sent to the parent process.
 */
import { loadDecoder } from "../../worker/engine/model/model-folder.ts";
import { PrefixCache } from "../../worker/engine/decoder/prefix-cache.ts";
import { Output } from "../../worker/engine/decode/output.ts";
import { Sampler } from "../../worker/engine/decode/sampler.ts";
import { Scheduler, type Task } from "../../worker/engine/scheduler.ts";
import type { Models } from "../../worker/engine/model/ensemble.ts";
import { family } from "./models/family.ts";
import { benchPrompt } from "./prompts.ts";
import { quantile } from "./statistics.ts";
import { GREEDY } from "./engines/engine.ts";

/** Speed during one tenth of the jobs, and memory after it. */
export interface SoakTenth {
  readonly jobs: number;
  readonly tokensPerSecond: number;
  /** CPU time, which does not depend on other processes. */
  readonly cpuMsPerToken: number;
  /** Median. */
  readonly stepMs: number;
  readonly rssMiB: number;
  /** After a garbage collection: objects, and buffers outside the heap. */
  readonly heapMiB: number;
  readonly buffersMiB: number;
  readonly prefixCacheMiB: number;
}

const VOCAB_SIZE = 2048;
const EOS_ID = 0;
/** Numbers of jobs submitted together, in turn: from one, which drafts tokens, to a batch of eight. */
const GROUPS = [1, 2, 4, 8] as const;
/** Small, so that it is soon full and evicts blocks. */
const PREFIX_BYTES_MAX = 8 * 2 ** 20;
/** Jobs before the measurement: after these, compiled code, the heap and onnxruntime's arenas have their size. */
const WARM_UP_JOBS = 500;

/** @param count jobs after the warm-up */
async function* soak(count: number): AsyncGenerator<SoakTenth, void, undefined> {
  const folders = family("demo");
  const options = { dtype: "int8", intraOpThreads: 0 } as const;
  const models: Models = {
    base: await loadDecoder(folders.base, options),
    expert: await loadDecoder(folders.expert, options),
    antiexpert: await loadDecoder(folders.antiexpert, options),
    vocabSize: VOCAB_SIZE,
  };
  const prefixes = new PrefixCache(PREFIX_BYTES_MAX);
  const steps: number[] = [];
  const scheduler = new Scheduler(2 ** 30, prefixes, (ms) => steps.push(ms));
  let [tokens, started] = [0, 0];

  const runMore = async (jobs: number) => {
    for (let [group, left] = [0, jobs]; left > 0; group++) {
      const size = Math.min(GROUPS[group % GROUPS.length]!, left);
      left -= size;
      const ended = Array.from({ length: size }, () => {
        const { promise, resolve, reject } = Promise.withResolvers<void>();
        const task: Task = soakTask(models, started++, {
          onToken: (isLast) => {
            tokens++;
            if (isLast) scheduler.stop(task);
          },
          onEnd: (error) => (error ? reject(error) : resolve()),
        });
        scheduler.submit(task);
        return promise;
      });
      await Promise.all(ended);
    }
  };

  await runMore(WARM_UP_JOBS);
  const jobs = Math.ceil(count / 10);
  for (let tenth = 1; tenth <= 10; tenth++) {
    [tokens, steps.length] = [0, 0];
    const [startedMs, cpu] = [performance.now(), process.cpuUsage()];
    await runMore(jobs);
    const ms = performance.now() - startedMs;
    const { user, system } = process.cpuUsage(cpu);
    // Twice: buffers of objects that the first collection finds unused are freed concurrently.
    globalThis.gc!();
    globalThis.gc!();
    const { rss, heapUsed, arrayBuffers } = process.memoryUsage();
    yield {
      jobs,
      tokensPerSecond: (1000 * tokens) / ms,
      cpuMsPerToken: (user + system) / 1000 / tokens,
      stepMs: quantile(
        steps.sort((a, b) => a - b),
        0.5,
      ),
      rssMiB: rss / 2 ** 20,
      heapMiB: heapUsed / 2 ** 20,
      buffersMiB: arrayBuffers / 2 ** 20,
      prefixCacheMiB: prefixes.bytes / 2 ** 20,
    };
  }
}

function soakTask(
  models: Models,
  job: number,
  events: { onToken: (isLast: boolean) => void; onEnd: (error: Error | null) => void },
): Task {
  const prompt = benchPrompt(24 + (job % 5) * 10, job % 200);
  const maxTokens = 2 + (job % 8);
  const isSampled = job % 3 === 0;
  /** The job is stopped after this number of tokens; null for most jobs. */
  const stopAfter = job % 16 === 15 ? 1 : null;
  let count = 0;
  return {
    request: {
      models,
      prompts: { base: prompt, expert: prompt, antiexpert: prompt },
      alpha: job % 4 === 0 ? 0 : 1,
      resume: [],
      tenant: `tenant ${job % 7}`,
      sampler: new Sampler({ ...GREEDY, seed: job, temperature: isSampled ? 1 : 0 }, prompt),
      output: new Output({
        decode: (ids) => ids.join(),
        stop: ["99"],
        eosIds: new Set([EOS_ID]),
        maxTokens,
      }),
      ...(job % 10 === 0 && { analysis: { logprobs: 5, trace: true } }),
    },
    cacheTokensMax: prompt.length + maxTokens,
    onStart: () => {},
    onToken: () => events.onToken(++count === stopAfter),
    onEnd: events.onEnd,
  };
}

const tenths: SoakTenth[] = [];
for await (const tenth of soak(Number(process.argv[2]))) {
  tenths.push(tenth);
  // Progress: ten thousand jobs take minutes.
  console.error(
    `soak test: ${tenths.length} of 10 tenths, ${tenth.tokensPerSecond.toFixed(0)} tokens/s`,
  );
}
process.send!(tenths);
process.disconnect();
