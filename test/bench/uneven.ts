/**
 * Uneven contexts: a proxy-tuned step of seven short sequences beside a long one, compared with steps of either alone, in turns.
 * `node uneven.ts DTYPE`, for the inflated family; the result is sent to the parent process.
 */
import type { Decoder } from "../../worker/engine/decoder/decoder.ts";
import { loadDecoder } from "../../worker/engine/model/model-folder.ts";
import { family, ROLES, type Role } from "./models/family.ts";
import type { Dtype } from "./plan.ts";
import { formatNumber, formatRange, printLines } from "./table.ts";
import { summarize, type Summary } from "./statistics.ts";

const SHORT = Array.from({ length: 7 }, () => 128);
const LONG = [4_096];
const CASES = { short: SHORT, long: LONG, together: [...SHORT, ...LONG] };
type Case = keyof typeof CASES;

const ROUNDS = 5;
/** The first steps of a case group its sequences. */
const WARM_UP_STEPS = 3;
const STEPS = 8;
const BLOCK_TOKENS = 64;

export interface UnevenResult {
  readonly dtype: Dtype;
  /** For each model, and for all: processor time of a step, which does not depend on other processes, in ms. */
  readonly cpuMs: Readonly<Record<Role | "all", Readonly<Record<Case, Summary>>>>;
  /** Processor time of a step together, divided by that of both apart, in the same round. */
  readonly cpuRatio: Readonly<Record<Role | "all", Summary>>;
  /** The same of the time that passes. */
  readonly timeRatio: Summary;
  /** Bytes of the KV caches. */
  readonly bytes: Readonly<Record<Case, number>>;
  /** Bytes of the tokens that they hold. */
  readonly tokenBytes: Readonly<Record<Case, number>>;
}

/** Targets: of the ratios, and of the bytes together to the sum of both apart. */
const COST_MAX = 1.3;
const BYTES_MAX = 1.25;

export function printUneven(results: readonly UnevenResult[]): void {
  console.log("\nseven sequences of 128 tokens beside one of 4,096; processor time of a step\n");
  const head = ["format", "model", "seven ms", "one ms", "together ms", "together / apart"];
  const lines = results.flatMap(({ dtype, cpuMs, cpuRatio }) =>
    ([...ROLES, "all"] as const).map((role) => {
      const { short, long, together } = cpuMs[role];
      const times = [short, long, together].map(({ median }) => formatNumber(median));
      return [dtype, role, ...times, formatRange(cpuRatio[role])];
    }),
  );
  printLines([head, ...lines]);
  const verdict = (isMet: boolean, limit: number) =>
    `target ${isMet ? "met" : "MISSED"}: at most ${limit}`;
  for (const { dtype, cpuRatio, timeRatio, bytes, tokenBytes } of results) {
    const cost = cpuRatio.all.median;
    const held = bytes.together / (bytes.short + bytes.long);
    const perToken = bytes.together / tokenBytes.together;
    console.log(
      `\n${dtype}: processor time ${cost.toFixed(2)}, ${verdict(cost <= COST_MAX, COST_MAX)}; time ${formatRange(timeRatio)}`,
    );
    console.log(
      `${dtype}: memory ${held.toFixed(2)} of both apart, ${perToken.toFixed(2)} of the tokens, ${verdict(perToken <= BYTES_MAX, BYTES_MAX)}`,
    );
  }
}

interface Sample {
  readonly cpuMs: Record<Role, number>;
  readonly ms: number;
  readonly bytes: number;
  readonly tokenBytes: number;
}

async function measure(
  decoders: Readonly<Record<Role, Decoder>>,
  lengths: readonly number[],
): Promise<Sample> {
  const cpuMs = { base: 0, expert: 0, antiexpert: 0 };
  let [ms, bytes, tokenBytes] = [0, 0, 0];
  for (const role of ROLES) {
    const decoder = decoders[role];
    const sequences = lengths.map(() => decoder.open());
    await fill(decoder, sequences, lengths);
    const step = () => decoder.decode(sequences.map((sequence) => ({ sequence, id: 5 })));
    for (let i = 0; i < WARM_UP_STEPS; i++) await step();
    const [cpu, startedMs] = [process.cpuUsage(), performance.now()];
    for (let i = 0; i < STEPS; i++) await step();
    const { user, system } = process.cpuUsage(cpu);
    ms += (performance.now() - startedMs) / STEPS;
    cpuMs[role] = (user + system) / 1000 / STEPS;
    bytes += decoder.cacheBytes;
    tokenBytes += lengths.reduce((sum, length) => sum + length, 0) * decoder.kvRows!.bytesPerToken;
    for (const sequence of sequences) decoder.close(sequence);
  }
  return { cpuMs, ms, bytes, tokenBytes };
}

/** The content of a cache does not change the time of a step, so one block is copied instead of prefilling all. */
async function fill(
  decoder: Decoder,
  sequences: readonly unknown[],
  lengths: readonly number[],
): Promise<void> {
  const source = decoder.open();
  await decoder.prefill(
    source,
    Array.from({ length: BLOCK_TOKENS }, (_, i) => 1 + i),
  );
  const block = decoder.kvRows!.read(source, 0, BLOCK_TOKENS);
  decoder.close(source);
  for (const [i, length] of lengths.entries()) {
    const blocks = Array.from({ length: length / BLOCK_TOKENS }, () => block);
    decoder.kvRows!.append(sequences[i], blocks, BLOCK_TOKENS);
  }
}

async function run(dtype: Dtype): Promise<UnevenResult> {
  const folders = family("inflated");
  const load = (role: Role) => loadDecoder(folders[role], { dtype, intraOpThreads: 0 });
  const decoders = {
    base: await load("base"),
    expert: await load("expert"),
    antiexpert: await load("antiexpert"),
  };
  const names = Object.keys(CASES) as Case[];
  const rounds: Record<Case, Sample>[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const samples = {} as Record<Case, Sample>;
    for (const name of names) samples[name] = await measure(decoders, CASES[name]);
    rounds.push(samples);
  }
  const cpuOf = ({ cpuMs }: Sample, role: Role | "all") =>
    role === "all" ? cpuMs.base + cpuMs.expert + cpuMs.antiexpert : cpuMs[role];
  const ratio = (valueOf: (sample: Sample) => number) =>
    summarize(rounds.map((of) => valueOf(of.together) / (valueOf(of.short) + valueOf(of.long))))!;
  const byCase = <T>(value: (name: Case) => T) =>
    Object.fromEntries(names.map((name) => [name, value(name)])) as Record<Case, T>;
  const byRole = <T>(value: (role: Role | "all") => T) =>
    Object.fromEntries(([...ROLES, "all"] as const).map((role) => [role, value(role)])) as Record<
      Role | "all",
      T
    >;
  return {
    dtype,
    cpuMs: byRole((role) =>
      byCase((name) => summarize(rounds.map((of) => cpuOf(of[name], role)))!),
    ),
    cpuRatio: byRole((role) => ratio((sample) => cpuOf(sample, role))),
    timeRatio: ratio(({ ms }) => ms),
    bytes: byCase((name) => rounds[0]![name].bytes),
    tokenBytes: byCase((name) => rounds[0]![name].tokenBytes),
  };
}

// Imported for its report, it runs nothing.
if (process.argv[1] === import.meta.filename) {
  process.send!(await run(process.argv[2] as Dtype));
  process.disconnect();
}
