/**
 * Thousands of short jobs through the scheduler: whether steps get slower or memory grows. Jobs differ in all that leaves
 * something behind: prompts shared and not, tenants, alpha, drafts, reports, ends (by themselves, at their limit, stopped).
 * `node --expose-gc soak.ts JOBS`
 */
import { loadDecoder } from "../../worker/model/files.ts";
import { PrefixCache } from "../../worker/model/prefix-cache.ts";
import { Output } from "../../worker/decode/output.ts";
import { Sampler } from "../../worker/decode/sampler.ts";
import { Scheduler, type Task } from "../../worker/engine/scheduler.ts";
import type { Models } from "../../worker/parts.ts";
import { family } from "./models/family.ts";
import { promptOf } from "./prompts.ts";
import { quantile } from "./statistics.ts";
import { GREEDY } from "./subjects/subject.ts";

/** What a tenth of the jobs took, and what was held after it. */
export interface SoakTenth {
  readonly jobs: number;
  readonly tokensPerSecond: number;
  /** Of the processor, which other processes do not slow down. */
  readonly cpuMsPerToken: number;
  readonly stepMs: number;
  readonly rssMiB: number;
  /** Of live objects, and of live buffers outside the heap. */
  readonly heapMiB: number;
  readonly buffersMiB: number;
  readonly keptMiB: number;
}

const VOCAB_SIZE = 2048;
const EOS_ID = 0;
/** Jobs that are submitted together: alone, where drafts are made, up to a batch. */
const GROUPS = [1, 2, 4, 8] as const;
/** Soon full, so that blocks come and go. */
const PREFIX_BYTES_MAX = 8 * 2 ** 20;
/** Compilers, heap and onnxruntime's arenas have their size after these. */
const WARM_JOBS = 500;

export async function* soak(count: number): AsyncGenerator<SoakTenth, void, undefined> {
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
        const task: Task = taskOf(models, started++, {
          onToken: (last) => {
            tokens++;
            if (last) scheduler.stop(task);
          },
          onEnd: (error) => (error ? reject(error) : resolve()),
        });
        scheduler.submit(task);
        return promise;
      });
      await Promise.all(ended);
    }
  };

  await runMore(WARM_JOBS);
  const jobs = Math.ceil(count / 10);
  for (let tenth = 1; tenth <= 10; tenth++) {
    [tokens, steps.length] = [0, 0];
    const [startedMs, cpu] = [performance.now(), process.cpuUsage()];
    await runMore(jobs);
    const ms = performance.now() - startedMs;
    const { user, system } = process.cpuUsage(cpu);
    // Twice: buffers of what the first one finds dead are freed beside it.
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
      keptMiB: prefixes.bytes / 2 ** 20,
    };
  }
}

function taskOf(
  models: Models,
  job: number,
  told: { onToken: (isLast: boolean) => void; onEnd: (error: Error | null) => void },
): Task {
  const prompt = promptOf(24 + (job % 5) * 10, job % 200);
  const maxTokens = 2 + (job % 8);
  const isSampled = job % 3 === 0;
  /** Token after which somebody cancels. */
  const stopsAt = job % 16 === 15 ? 1 : null;
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
      ...(job % 10 === 0 && { report: { logprobs: 5, trace: true } }),
    },
    tokensMax: prompt.length + maxTokens,
    onStart: () => {},
    onToken: () => told.onToken(++count === stopsAt),
    onEnd: told.onEnd,
  };
}

const tenths: SoakTenth[] = [];
for await (const tenth of soak(Number(process.argv[2]))) {
  tenths.push(tenth);
  // Ten thousand jobs take minutes.
  console.error(`${tenths.length} of 10 tenths, ${tenth.tokensPerSecond.toFixed(0)} tokens/s`);
}
process.send!(tenths);
process.disconnect();
