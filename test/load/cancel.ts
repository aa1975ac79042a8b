/**
 * `npm run load:cancel`: how long a job lives after it was cancelled or deleted, or after its deadline, in each phase. It runs
 * an edge and a worker with the demo models, and measures from the request to the end of the job's stream.
 */
import { writeFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { Command } from "commander";
import { isEnd, type JobEvent } from "../../shared/api/job-events.ts";
import { JobClient, type JobInput } from "../../infra/cli/job-client.ts";
import { startEdge } from "../../infra/stack/edge.ts";
import { stopOnInterrupt } from "../../infra/stack/interrupt.ts";
import { stopAllChildren } from "../../infra/stack/process.ts";
import { connectRedis, startRedis } from "../../infra/stack/redis.ts";
import { startWorker } from "../../infra/stack/worker.ts";
import { KeyRegistry } from "../../shared/keys/registry.ts";
import { quantile } from "../bench/statistics.ts";

/** The target for p99. */
const LATENCY_MAX_MS = 250;
const DEADLINE_SECONDS = 1;

const options = new Command("npm run load:cancel --")
  .description("measure how soon a cancelled, deleted or expired job ends, in each phase")
  .option("--samples <number>", "jobs of each phase and kind of end", Number, 50)
  .option("--json <file>", "also write the report to this file")
  .parse()
  .opts<{ samples: number; json?: string }>();

/** As many tokens as the context of the demo models allows; the end-of-sequence token is forbidden. */
const LONG = {
  model: "atlas-qa",
  prompt: "the capital of france",
  max_tokens: 490,
  logit_bias: { "0": -100 },
} satisfies JobInput;
const longPrompt = () =>
  Array.from({ length: 200 }, () => `w${Math.floor(Math.random() * 90)}`).join(" ");

interface Phase {
  readonly name: string;
  readonly input: () => JobInput;
  /** Whether the slots are taken by other jobs. */
  readonly queued?: boolean;
  /** Resolves at the moment to end the job. */
  readonly reached: (event: JobEvent) => boolean;
  readonly pauseMsMax?: number;
}

const isTokens = ({ type }: JobEvent) => type === "tokens";
const isStarted = ({ type }: JobEvent) => type === "started";
const PHASES: readonly Phase[] = [
  { name: "queued", input: () => LONG, queued: true, reached: ({ type }) => type === "queued" },
  {
    name: "preparing",
    input: () => ({ ...LONG, prompt: longPrompt(), max_tokens: 8 }),
    reached: isStarted,
  },
  {
    name: "prefill",
    input: () => ({ ...LONG, prompt: longPrompt(), max_tokens: 8 }),
    reached: isStarted,
    pauseMsMax: 60,
  },
  { name: "decode", input: () => LONG, reached: isTokens },
  {
    name: "constrained decode",
    input: () => ({ ...LONG, response_format: { type: "regex", pattern: "([a-z]{1,9} ){90}" } }),
    reached: isTokens,
  },
];

stopOnInterrupt();
const { url: redisUrl } = await startRedis({ aof: true });
const [edge, redis] = await Promise.all([
  startEdge({ redisUrl }),
  connectRedis(redisUrl),
  startWorker({ redisUrl, env: { LOG_LEVEL: "warn", SLOTS: "2" } }),
]);
const { key } = await new KeyRegistry(redis).create("load");
const api = new JobClient(edge.url, key);
redis.disconnect();

/** @returns ms from the request to the end of the stream; null if the job was refused, or had ended before */
async function measure(
  phase: Phase,
  kind: "cancel" | "delete" | "deadline",
): Promise<number | null> {
  const deadline = kind === "deadline" ? { deadline: DEADLINE_SECONDS } : {};
  const submittedMs = performance.now();
  // A job that would not start before its deadline is refused if the queue is known to be long.
  const job = await api.submit({ ...phase.input(), ...deadline }).catch((error: unknown) => {
    if (kind === "deadline" && String(error).includes("deadline_unreachable")) return null;
    throw error;
  });
  if (job === null) return null;
  const { id } = job;
  let askedMs = Infinity;
  for await (const event of api.events(id)) {
    if (isEnd(event) && event.type === "succeeded") return null;
    if (isEnd(event)) break;
    if (askedMs < Infinity || !phase.reached(event)) continue;
    askedMs = submittedMs + DEADLINE_SECONDS * 1000;
    if (kind === "deadline") continue;
    await delay(Math.random() * (phase.pauseMsMax ?? 0));
    askedMs = performance.now();
    if (kind === "cancel") void api.cancel(id);
    else void api.request(`/v1/jobs/${id}`, { method: "DELETE" });
  }
  return performance.now() - askedMs;
}

interface Row {
  readonly phase: string;
  readonly kind: string;
  /** Milliseconds. */
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
  /** Jobs that had not ended before. */
  readonly jobs: number;
}

function print({ phase, kind, p50, p99, max, jobs }: Row): void {
  const times = [p50, p99, max].map((ms) => ms.toFixed(0).padStart(8));
  console.log(phase.padEnd(20) + kind.padEnd(10) + times.join("") + String(jobs).padStart(8));
}

const columns = ["p50 ms", "p99 ms", "max ms", "jobs"].map((head) => head.padStart(8));
console.log("phase".padEnd(20) + "end".padEnd(10) + columns.join(""));
const rows: Row[] = [];
for (const phase of PHASES) {
  // Two jobs take both slots, again and again, while the others are queued.
  const stop = new AbortController();
  const fill = async () => {
    while (!stop.signal.aborted) for await (const _ of api.events((await api.submit(LONG)).id));
  };
  const fillers = phase.queued ? [fill(), fill(), fill(), fill()] : [];
  if (phase.queued) await delay(500);
  for (const kind of ["cancel", "delete", "deadline"] as const) {
    const times: number[] = [];
    for (let i = 0; i < options.samples; i++) {
      const ms = await measure(phase, kind);
      if (ms !== null) times.push(ms);
    }
    if (times.length === 0) continue;
    const sorted = times.toSorted((a, b) => a - b);
    const [p50, p99] = [quantile(sorted, 0.5), quantile(sorted, 0.99)];
    const row = { phase: phase.name, kind, p50, p99, max: sorted.at(-1)!, jobs: times.length };
    rows.push(row);
    print(row);
  }
  stop.abort();
  await Promise.all(fillers);
}
console.log(`\nThe target is a p99 of at most ${LATENCY_MAX_MS} ms on an idle machine.`);
if (options.json) writeFileSync(options.json, JSON.stringify(rows, null, 2));
process.exitCode = rows.every(({ p99 }) => p99 <= LATENCY_MAX_MS) ? 0 : 1;
await stopAllChildren();
process.exit();
