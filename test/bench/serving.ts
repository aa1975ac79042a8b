/**
 * The engine as the worker starts it, in its thread: how late the main thread's timers become under full load.
 * `node serving.ts OPTIONS`, the options as JSON.
 */
import { join } from "node:path";
import { mkdirSync, writeFileSync } from "node:fs";
import { EngineClient } from "../../worker/engine/client.ts";
import type { Generation } from "../../shared/job.ts";
import { CACHE, family, type FamilyName } from "./models/family.ts";
import type { Dtype } from "./plan.ts";
import { promptOf } from "./prompts.ts";
import { quantile } from "./statistics.ts";
import { ALPHA, GREEDY } from "./subjects/subject.ts";

export interface ServingOptions {
  readonly family: FamilyName;
  readonly dtype: Dtype;
}

export interface Heartbeat {
  /** How late a timer was, in ms. */
  readonly delayP50Ms: number;
  readonly delayP99Ms: number;
  readonly delayMaxMs: number;
  readonly beats: number;
}

const RUNS = 8;
const BEAT_MS = 2;
const CACHE_BYTES_MAX = 4 * 2 ** 30;

async function start({ family: name, dtype }: ServingOptions): Promise<EngineClient> {
  const folders = family(name);
  mkdirSync(CACHE, { recursive: true });
  const manifestFile = join(CACHE, `${name}-${dtype}.json`);
  const model = (role: keyof typeof folders) => ({ path: folders[role], dtype });
  const ensemble = {
    id: "bench",
    base: model("base"),
    expert: model("expert"),
    antiexpert: model("antiexpert"),
  };
  writeFileSync(manifestFile, JSON.stringify({ ensembles: [ensemble] }));
  return EngineClient.start(
    {
      manifestFile,
      intraOpThreads: 0,
      cacheBytesMax: CACHE_BYTES_MAX,
      prefixBytesMax: 0,
    },
    (error) => {
      throw error;
    },
  );
}

async function run(
  client: EngineClient,
  number: number,
  promptTokens: number,
  maxTokens: number,
): Promise<void> {
  const generation: Generation = {
    ...GREEDY,
    model: "bench",
    input: { kind: "tokens", ids: [...promptOf(promptTokens, number)] },
    alpha: ALPHA,
    maxTokens,
    stop: [],
  };
  for await (const event of client.run("bench", generation, [], new AbortController().signal)) {
    if (event.type === "failed") throw new Error(event.message);
  }
}

async function heartbeat(client: EngineClient): Promise<Heartbeat> {
  await run(client, 0, 128, 4);
  const delays: number[] = [];
  let lastMs = performance.now();
  const timer = setInterval(() => {
    const now = performance.now();
    delays.push(Math.max(0, now - lastMs - BEAT_MS));
    lastMs = now;
  }, BEAT_MS);
  for (const endMs = performance.now() + 8_000; performance.now() < endMs;) {
    await Promise.all(Array.from({ length: RUNS }, (_, i) => run(client, i, 128, 48)));
  }
  clearInterval(timer);
  delays.sort((a, b) => a - b);
  const at = (place: number) => quantile(delays, place);
  return { delayP50Ms: at(0.5), delayP99Ms: at(0.99), delayMaxMs: at(1), beats: delays.length };
}

const options = JSON.parse(process.argv[2]!) as ServingOptions;
const client = await start(options);
process.send!(await heartbeat(client));
await client.close();
process.disconnect();
