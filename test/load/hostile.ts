/**
 * `npm run load:hostile`: how long one tenant's stream waits between two tokens while another tenant sends requests that were
 * made to be expensive, compared with ordinary ones. It runs the threads of a worker with the demo models, without Redis.
 */
import { writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { setTimeout } from "node:timers/promises";
import { Command } from "commander";
import type { ResponseFormat } from "../../shared/api/response-formats.ts";
import type { ValidGeneration } from "../../shared/jobs/record.ts";
import { EngineClient } from "../../worker/engine-client/client.ts";
import { quantile } from "../bench/statistics.ts";
import { FormatCompiler } from "../../edge/server/format-compiler.ts";
import { compileResponseFormat } from "../../shared/grammar/format.ts";
import type { Grammar } from "../../shared/grammar/rules/grammar.ts";
import { AppError } from "../../shared/api/errors.ts";
import { generation } from "../support/generation.ts";
import { HOSTILE_INPUTS, ORDINARY, type HostileInput } from "./hostile-inputs.ts";

interface Gaps {
  readonly name: string;
  readonly p99Ms: number;
  readonly maxMs: number;
  /** Requests of the other tenant that ended meanwhile. */
  readonly ended: number;
  /** Processor time of the whole process for each token of the stream: other processes hardly change it. */
  readonly cpuMs: number;
  /** p99 relative to the p99 beside as many ordinary requests (accepted ones) or beside none (refused ones). */
  readonly ratio: number;
}

const MANIFEST = join(import.meta.dirname, "../../infra/models/ensembles.json");
const MIB = 2 ** 20;
/** Between two requests of a sender. */
const PAUSE_MS = 50;
/** Target for the ratio of an accepted request. */
const RATIO_MAX = 2;

const options = new Command("npm run load:hostile --")
  .description("measure the gaps between a stream's tokens beside requests made to be expensive")
  .option("--seconds <number>", "duration of each measurement", Number, 5)
  .option("--models <manifest>", "the models to run", MANIFEST)
  .option("--only <text>", "only inputs whose name contains the text", "")
  .option("--json <file>", "also write the report to this file")
  .parse()
  .opts<{ seconds: number; models: string; only: string; json?: string }>();

const engine = await EngineClient.start(
  {
    manifestFile: resolve(options.models),
    intraOpThreads: 1,
    cacheBytesMax: 1_024 * MIB,
    prefixBytesMax: 256 * MIB,
  },
  (error) => {
    throw error;
  },
);
const model = engine.cards[0]!.id;
const compiler = new FormatCompiler(console.warn);
const ANY_OBJECT = compileResponseFormat({ type: "json_object" })!;

let formats = 0;

/** As the edge does it; that of any JSON object if the format is refused. With a rule that is not used, it is a new one for the worker. */
async function compiled(format: ResponseFormat): Promise<Grammar> {
  const { result } = await compiler.compile(JSON.stringify({ format }));
  const unused = String(formats++);
  try {
    return { rules: [...result().grammar!.rules, unused] };
  } catch (error) {
    if (error instanceof AppError) return { rules: [...ANY_OBJECT.rules, unused] };
    throw error;
  }
}

/** Streams one generation after another, and returns the ms between tokens, until the signal. */
async function streamGaps(signal: AbortSignal): Promise<number[]> {
  const gaps: number[] = [];
  const changes = { ...ORDINARY, maxTokens: 400, model };
  while (!signal.aborted) {
    let lastMs: number | null = null;
    for await (const event of engine.run("calm", generation(changes), [], signal)) {
      if (event.type !== "token") continue;
      if (lastMs !== null) gaps.push(performance.now() - lastMs);
      lastMs = performance.now();
    }
  }
  return gaps;
}

/** Sends one request after another until the signal. @returns how many ended */
async function send(
  changes: () => Partial<ValidGeneration>,
  format: ResponseFormat | undefined,
  signal: AbortSignal,
): Promise<number> {
  let ended = 0;
  for (; !signal.aborted; ended++) {
    const grammar = format && { grammar: await compiled(format) };
    const request = generation({ ...changes(), ...grammar });
    for await (const event of engine.run("hostile", request, [], signal)) {
      if (event.type === "failed" && event.code === "internal") throw new Error(event.message);
    }
    // Refused requests end at once: without a pause this would measure how busy the processor is with sending them.
    await setTimeout(PAUSE_MS);
  }
  return ended;
}

async function measure(
  { name, concurrency, changes, format }: Omit<HostileInput, "isAccepted">,
  referenceMs: number | null,
): Promise<Gaps> {
  const signal = AbortSignal.timeout(options.seconds * 1000);
  const before = process.cpuUsage();
  const [gaps, ...counts] = await Promise.all([
    streamGaps(signal),
    // Spread for each request, because a getter makes another prompt each time.
    ...Array.from({ length: concurrency }, (_, seed) =>
      send(() => ({ ...changes, model, seed }), format, signal),
    ),
  ]);
  const sorted = gaps.toSorted((a, b) => a - b);
  const p99Ms = quantile(sorted, 0.99);
  const { user, system } = process.cpuUsage(before);
  return {
    name,
    p99Ms,
    maxMs: sorted.at(-1)!,
    cpuMs: (user + system) / 1000 / gaps.length,
    ended: counts.reduce((sum, count) => sum + count, 0),
    ratio: p99Ms / (referenceMs ?? p99Ms),
  };
}

function print({ name, p99Ms, maxMs, ended, ratio, cpuMs }: Gaps): void {
  const numbers = [p99Ms.toFixed(1), maxMs.toFixed(1), ratio.toFixed(2), cpuMs.toFixed(1)];
  const columns = [...numbers, String(ended)];
  console.log(name.padEnd(48) + columns.map((column) => column.padStart(10)).join(""));
}

console.log(
  "beside".padEnd(48) +
    ["p99 ms", "max ms", "ratio", "cpu ms", "ended"].map((head) => head.padStart(10)).join(""),
);
const report: Gaps[] = [];
const add = (gaps: Gaps) => {
  report.push(gaps);
  print(gaps);
  return gaps;
};
/** The p99 beside as many ordinary requests, by their number. */
const ordinaryMs = new Map<number, number>();
await measure({ name: "warm up", concurrency: 1, changes: ORDINARY }, null);
const alone = add(await measure({ name: "no request", concurrency: 0, changes: {} }, null));
for (const concurrency of [1, 7]) {
  const name = `ordinary requests, ${concurrency} at once`;
  const { p99Ms } = add(await measure({ name, concurrency, changes: ORDINARY }, null));
  ordinaryMs.set(concurrency, p99Ms);
}
for (const input of HOSTILE_INPUTS.filter(({ name }) => name.includes(options.only))) {
  const { isAccepted, concurrency } = input;
  add(await measure(input, isAccepted ? ordinaryMs.get(concurrency)! : alone.p99Ms));
}
if (options.json) writeFileSync(options.json, JSON.stringify(report, null, 2));
await engine.close();
console.log(
  `\nThe target for accepted requests is a ratio of at most ${RATIO_MAX}; refused ones should change nothing.`,
);
