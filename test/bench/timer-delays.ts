/**
 * Measures how late the timers of the main thread are while the engine, in its own thread as in a worker, is under full load.
 * `node timer-delays.ts OPTIONS`, with `TimerDelayOptions` as JSON; the result is sent to the parent process.
 */
import { EngineClient } from "../../worker/engine-client/client.ts";
import type { Generation } from "../../shared/jobs/record.ts";
import { writeManifest, type FamilyName } from "./models/family.ts";
import type { Dtype } from "./plan.ts";
import { benchPrompt } from "./prompts.ts";
import { quantile } from "./statistics.ts";
import { ALPHA, GREEDY } from "./engines/engine.ts";

interface TimerDelayOptions {
  readonly family: FamilyName;
  readonly dtype: Dtype;
}

export interface TimerDelays {
  /** How late a timer was. */
  readonly delayP50Ms: number;
  readonly delayP99Ms: number;
  readonly delayMaxMs: number;
  /** Number of timers. */
  readonly timers: number;
}

/** Generations at the same time. */
const CONCURRENCY = 8;
const TIMER_MS = 2;
/** At least this long. */
const MEASURE_MS = 8_000;
const CACHE_BYTES_MAX = 4 * 2 ** 30;

function startEngine({ family, dtype }: TimerDelayOptions): Promise<EngineClient> {
  return EngineClient.start(
    {
      manifestFile: writeManifest(family, dtype),
      intraOpThreads: 0,
      cacheBytesMax: CACHE_BYTES_MAX,
      prefixBytesMax: 0,
    },
    (error) => {
      throw error;
    },
  );
}

async function generate(
  client: EngineClient,
  promptIndex: number,
  promptTokens: number,
  maxTokens: number,
): Promise<void> {
  const generation: Generation = {
    ...GREEDY,
    model: "bench",
    input: { kind: "tokens", ids: [...benchPrompt(promptTokens, promptIndex)] },
    alpha: ALPHA,
    maxTokens,
    stop: [],
  };
  for await (const event of client.run("bench", generation, [], new AbortController().signal)) {
    if (event.type === "failed") throw new Error(event.message);
  }
}

async function measureTimerDelays(client: EngineClient): Promise<TimerDelays> {
  await generate(client, 0, 128, 4);
  const delays: number[] = [];
  let lastMs = performance.now();
  const timer = setInterval(() => {
    const now = performance.now();
    delays.push(Math.max(0, now - lastMs - TIMER_MS));
    lastMs = now;
  }, TIMER_MS);
  for (const endMs = performance.now() + MEASURE_MS; performance.now() < endMs;) {
    await Promise.all(Array.from({ length: CONCURRENCY }, (_, i) => generate(client, i, 128, 48)));
  }
  clearInterval(timer);
  delays.sort((a, b) => a - b);
  const at = (q: number) => quantile(delays, q);
  return { delayP50Ms: at(0.5), delayP99Ms: at(0.99), delayMaxMs: at(1), timers: delays.length };
}

const options = JSON.parse(process.argv[2]!) as TimerDelayOptions;
const client = await startEngine(options);
process.send!(await measureTimerDelays(client));
await client.close();
process.disconnect();
