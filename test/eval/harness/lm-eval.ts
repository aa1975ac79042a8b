/** Runs lm-evaluation-harness and the Python files of this folder, and reads what they wrote. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Child } from "../../../infra/stack/process.ts";
import { UserError } from "../../../infra/stack/user-error.ts";

/** A request of a task and its result. */
export interface Sample {
  readonly task: string;
  readonly context: string;
  /** The scored text; of a generation its text. */
  readonly text: string;
  /** Null for a generation. */
  readonly logprob: number | null;
  readonly isGreedy: boolean | null;
}

export interface LmEvalRun {
  readonly name: string;
  readonly seconds: number;
  /** By task, then by metric. */
  readonly metrics: Readonly<Record<string, Readonly<Record<string, number>>>>;
  readonly samples: readonly Sample[];
}

export interface LmEvalOptions {
  readonly name: string;
  readonly model: string;
  /** `--model_args` */
  readonly args: string;
  readonly batch: number;
  readonly tasks: readonly string[];
  /** Folder of the tasks. */
  readonly inputs: string;
  readonly folder: string;
  readonly apiKey: string;
}

/** Nothing is looked up on a hub of models and data sets. */
const OFFLINE = { HF_HUB_OFFLINE: "1", HF_DATASETS_OFFLINE: "1", TRANSFORMERS_OFFLINE: "1" };

/** @returns what a Python file of this folder printed */
export async function runPython(programs: string, args: readonly string[]): Promise<string> {
  const [file = "", ...rest] = args;
  const command = join(programs, "python");
  const script = join(import.meta.dirname, file);
  const child = new Child({ name: file, command, args: [script, ...rest], env: OFFLINE });
  if ((await child.exited).code !== 0) throw new UserError(`${file} failed:\n${child.output}`);
  return child.output.trim().split("\n").at(-1) ?? "";
}

export async function runLmEval(programs: string, options: LmEvalOptions): Promise<LmEvalRun> {
  const { name, model, args, batch, tasks, inputs, folder, apiKey } = options;
  console.log(`lm_eval: ${name}`);
  const output = join(folder, "runs", name.replaceAll(" ", "-"));
  const startMs = performance.now();
  const child = new Child({
    name: `lm_eval (${name})`,
    command: join(programs, "lm_eval"),
    args: [
      ["run", "--model", model, "--model_args", args, "--batch_size", String(batch)],
      ["--tasks", tasks.join(","), "--include_path", inputs],
      ["--device", "cpu", "--log_samples", "--output_path", output],
    ].flat(),
    env: { ...OFFLINE, HF_HOME: join(folder, "hf"), OPENAI_API_KEY: apiKey },
  });
  if ((await child.exited).code !== 0) throw new UserError(`${child.name}:\n${child.output}`);
  const seconds = (performance.now() - startMs) / 1000;
  return { name, seconds, ...readResults(output, tasks) };
}

function readResults(
  folder: string,
  tasks: readonly string[],
): Pick<LmEvalRun, "metrics" | "samples"> {
  const files = readdirSync(folder, { recursive: true, encoding: "utf8" });
  const results = files.find((file) => /results_.*\.json$/.test(file))!;
  const content = JSON.parse(readFileSync(join(folder, results), "utf8")) as {
    results: Record<string, Record<string, unknown>>;
  };
  const samples = tasks.flatMap((task) => {
    const file = files.find((name) => name.includes(`samples_${task}_`))!;
    const lines = readFileSync(join(folder, file), "utf8").trim().split("\n");
    return lines.flatMap((line) => toSamples(task, JSON.parse(line) as SampleLine));
  });
  const metrics = Object.entries(content.results).map(([task, values]) => {
    const numbers = Object.entries(values).filter(([, value]) => typeof value === "number");
    return [task, Object.fromEntries(numbers) as Record<string, number>] as const;
  });
  return { metrics: Object.fromEntries(metrics), samples };
}

interface SampleLine {
  readonly arguments: Readonly<
    Record<string, { readonly arg_0: string; readonly arg_1?: unknown }>
  >;
  /** For each request: [[log-probability, whether it is greedy]], [log-probability], or [text]. */
  readonly resps: readonly (readonly unknown[])[];
}

function toSamples(task: string, line: SampleLine): Sample[] {
  return Object.values(line.arguments).map(({ arg_0, arg_1 }, i) => {
    const [result] = line.resps[i]!;
    if (task.endsWith("generate")) {
      return { task, context: arg_0, text: String(result), logprob: null, isGreedy: null };
    }
    const [logprob, greedy] = Array.isArray(result)
      ? (result as [unknown, string | boolean | null])
      : [result, null];
    const isGreedy = greedy === null ? null : greedy === true || greedy === "True";
    const [context, text] = typeof arg_1 === "string" ? [arg_0, arg_1] : ["", arg_0];
    return { task, context, text, logprob: Number(logprob), isGreedy };
  });
}
