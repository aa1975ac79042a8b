/**
 * `npm run bench:pair`: the cost of a pair whose expert is an adapter of the antiexpert, beside one model and beside two. Each round
 * measures all forms in turns, and the ratios are those of the same round, so that other load on the machine moves them little.
 * The models are the bench's inflated antiexpert (10M parameters) and its base (98M) in that role; the adapters have rank 16 in all
 * modules of attention and MLP.
 */
import { fork } from "node:child_process";
import { writeFileSync } from "node:fs";
import { Command } from "commander";
import { AdapterDecoder } from "../../../worker/engine/decoder/adapter-decoder.ts";
import type { Decoder } from "../../../worker/engine/decoder/decoder.ts";
import type { ExternalCacheDecoder } from "../../../worker/engine/decoder/external-cache-decoder.ts";
import { loadDecoder } from "../../../worker/engine/model/model-folder.ts";
import { describeMachine } from "../machine.ts";
import { summarize, type Summary } from "../statistics.ts";
import { FOLDERS, RANK, randomAdapter, type Dtype, type MemoryForm, type Size } from "./models.ts";

const options = new Command("npm run bench:pair --")
  .description("measure a pair with an adapter beside one model and two models")
  .option("--json <file>", "also write the report to this file")
  .option("--rounds <n>", "rounds of each case", "15")
  .option("--context <tokens>", "tokens in the cache of each sequence", "128")
  .option("--threads <n>", "threads of each model; 0 for the default", "0")
  .option("--dtype <dtypes...>", "weight formats", ["fp32", "int8"])
  .option("--models <sizes...>", "sizes of the small model", ["10M", "98M"])
  .option("--sequences <counts...>", "sequences that run together", ["1", "4", "8"])
  .parse()
  .opts<{
    json?: string;
    rounds: string;
    context: string;
    threads: string;
    dtype: Dtype[];
    models: Size[];
    sequences: string[];
  }>();

const [rounds, context, intraOpThreads] = [options.rounds, options.context, options.threads].map(
  Number,
) as [number, number, number];
const STEPS = 6;

/** Milliseconds of a step. */
interface Times {
  readonly wall: number;
  readonly cpu: number;
}

/** The decoders that a step runs, each with its sequences. */
interface Form {
  readonly name: "one model" | "two rows" | "two models" | "adapter";
  readonly runs: readonly { readonly host: Decoder; readonly sequences: readonly Decoder[] }[];
}

interface Row {
  readonly model: string;
  readonly dtype: string;
  readonly sequences: number;
  readonly wallMs: Readonly<Record<string, Summary>>;
  readonly cpuMs: Readonly<Record<string, Summary>>;
  /** Of one model's step, medians over the rounds. */
  readonly wallRatio: Readonly<Record<string, Summary>>;
  readonly cpuRatio: Readonly<Record<string, Summary>>;
}

interface MemoryRow {
  readonly model: Size;
  readonly dtype: Dtype;
  /** Growth of a new process that loads these models and runs some tokens. */
  readonly mib: Readonly<Record<MemoryForm, number>>;
}

const rows: Row[] = [];
const memory: MemoryRow[] = [];
for (const model of options.models) {
  for (const dtype of options.dtype) {
    const mib = {
      "one model": await residentMib(model, dtype, "one model"),
      "two models": await residentMib(model, dtype, "two models"),
      adapter: await residentMib(model, dtype, "adapter"),
    };
    console.log(`${model} ${dtype}, memory: ${JSON.stringify(mib)} MiB`);
    memory.push({ model, dtype, mib });
    rows.push(...(await measureModel(model, dtype)));
  }
}
if (options.json !== undefined) {
  const report = {
    machine: describeMachine(),
    context,
    rank: RANK,
    threads: intraOpThreads,
    memory,
    rows,
  };
  writeFileSync(options.json, JSON.stringify(report, null, 2));
}

/** Loads a form in a process of its own. */
function residentMib(...of: readonly [Size, Dtype, MemoryForm]): Promise<number> {
  const child = fork(new URL("memory.ts", import.meta.url), of);
  return new Promise((resolve, reject) => {
    child.once("message", (mib) => resolve(Number(mib)));
    child.once("exit", (code) => reject(new Error(`memory.ts ended with ${code}`)));
  });
}

async function measureModel(model: Size, dtype: Dtype): Promise<Row[]> {
  const folder = FOLDERS[model];
  const load = { dtype, intraOpThreads };
  const [one, other, host] = [
    await loadDecoder(folder, load),
    await loadDecoder(folder, load),
    await loadDecoder(folder, { ...load, adapters: [randomAdapter(folder)] }),
  ];
  const adapter = new AdapterDecoder(host as ExternalCacheDecoder, 0) as Decoder;
  const measured: Row[] = [];
  for (const count of options.sequences.map(Number)) {
    const of = (decoder: Decoder) => Array.from({ length: count }, () => decoder);
    const forms: Form[] = [
      { name: "one model", runs: [{ host: one, sequences: of(one) }] },
      // A pair without the adapter's own products.
      { name: "two rows", runs: [{ host: one, sequences: [...of(one), ...of(one)] }] },
      {
        name: "two models",
        runs: [
          { host: one, sequences: of(one) },
          { host: other, sequences: of(other) },
        ],
      },
      {
        name: "adapter",
        runs: [{ host, sequences: of(host).flatMap((each) => [adapter, each]) }],
      },
    ];
    const row = summarizeRow({ model, dtype, sequences: count }, await measureForms(forms));
    print(row);
    measured.push(row);
  }
  return measured;
}

/** The times of each form in each round. */
async function measureForms(forms: readonly Form[]): Promise<Map<string, Times[]>> {
  const times = new Map<string, Times[]>(forms.map(({ name }) => [name, []]));
  const opened = new Map<Form, { decoder: Decoder; sequence: unknown }[][]>();
  for (const form of forms) {
    const groups: { decoder: Decoder; sequence: unknown }[][] = [];
    for (const { sequences } of form.runs) {
      const group = sequences.map((decoder) => ({ decoder, sequence: decoder.open() }));
      for (const { decoder, sequence } of group) {
        await decoder.prefill(
          sequence,
          Array.from({ length: context }, (_, i) => 1 + (i % 999)),
        );
      }
      groups.push(group);
    }
    opened.set(form, groups);
  }
  const step = async (form: Form) => {
    for (const [i, { host }] of form.runs.entries()) {
      await host.decode(opened.get(form)![i]!.map(({ sequence }) => ({ sequence, id: 7 })));
    }
  };
  for (let round = -1; round < rounds; round++) {
    for (const form of forms) {
      const [startedMs, cpu] = [performance.now(), process.cpuUsage()];
      for (let i = 0; i < STEPS; i++) await step(form);
      const wall = (performance.now() - startedMs) / STEPS;
      const { user, system } = process.cpuUsage(cpu);
      // The first round warms up.
      if (round >= 0) times.get(form.name)!.push({ wall, cpu: (user + system) / 1000 / STEPS });
      for (const { decoder, sequence } of opened.get(form)!.flat())
        decoder.rewind!(sequence, STEPS);
    }
  }
  for (const { decoder, sequence } of [...opened.values()].flat(2)) decoder.close(sequence);
  return times;
}

function summarizeRow(
  of: Omit<Row, "wallMs" | "cpuMs" | "wallRatio" | "cpuRatio">,
  times: ReadonlyMap<string, readonly Times[]>,
): Row {
  const single = times.get("one model")!;
  const perForm = (value: (time: Times, round: number) => number) =>
    Object.fromEntries(
      Array.from(times, ([name, samples]) => [name, summarize(samples.map(value))!] as const),
    );
  return {
    ...of,
    wallMs: perForm(({ wall }) => wall),
    cpuMs: perForm(({ cpu }) => cpu),
    wallRatio: perForm(({ wall }, round) => wall / single[round]!.wall),
    cpuRatio: perForm(({ cpu }, round) => cpu / single[round]!.cpu),
  };
}

function print({ model, dtype, sequences, wallMs, cpuMs, wallRatio, cpuRatio }: Row): void {
  const cells = Object.keys(wallMs).map((name) => {
    const [ms, wall, cpu] = [wallMs, wallRatio, cpuRatio].map((values) =>
      values[name]!.median.toFixed(2),
    );
    return `${name} ${ms} ms (${wall}; processor ${cpuMs[name]!.median.toFixed(2)} ms, ${cpu})`;
  });
  console.log(`${model} ${dtype}, ${sequences} sequences: ${cells.join("; ")}`);
}
