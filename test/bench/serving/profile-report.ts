/** Time and processor time of everything around the models, from the times of requests, of the models' runs and of the processes. */
import { atMost, printTargets, type RatedTarget } from "../rated-target.ts";
import { summarize, type Summary } from "../statistics.ts";
import { formatNumber, printLines } from "../table.ts";
import type { Machine } from "../machine.ts";
import type { ModelRun } from "./run-log.ts";

/** Times in ms since 1970. */
export interface TimedRequest {
  readonly startMs: number;
  readonly firstMs: number;
  readonly tokens: number;
}

/** Of one request on an idle stack, in ms. */
interface FirstTokenTimes {
  readonly firstTokenMs: number;
  /** Each model's first two runs: the prompt, and the first token. */
  readonly modelMs: number;
  /** From the request to the first run. */
  readonly beforeMs: number;
  /** Between runs. */
  readonly betweenMs: number;
  /** From the end of the last run before the first token to its arrival. */
  readonly afterMs: number;
}

/** Of one measurement with several clients. */
export interface Load {
  readonly requests: number;
  readonly tokens: number;
  /** Processor time without the models' runs, by process, in ms. */
  readonly aroundMs: Readonly<Record<string, number>>;
  readonly modelMs: number;
}

export interface ProfileReport {
  readonly machine: Machine;
  readonly options: Readonly<Record<string, unknown>>;
  readonly firstToken: Readonly<Record<keyof FirstTokenTimes | "ratio", Summary>>;
  /** Processor time around the models, by process and in all of them. */
  readonly around: readonly {
    readonly part: string;
    readonly msPerToken: number;
    readonly msPerRequest: number;
  }[];
  readonly targets: readonly RatedTarget[];
}

const RUNS_OF_FIRST_TOKEN = 2;

/** @param runs of all requests, in their order */
export function firstTokenTimes(
  requests: readonly TimedRequest[],
  runs: readonly ModelRun[],
): FirstTokenTimes[] {
  return requests.map(({ startMs, firstMs }) => {
    const own = runs.filter((run) => run.startMs >= startMs && endOf(run) <= firstMs);
    const bySession = Object.values(Object.groupBy(own, ({ session }) => session));
    const first = bySession.flatMap((of) => of!.slice(0, RUNS_OF_FIRST_TOKEN));
    const [begin, end] = [own[0]!.startMs, endOf(own.at(-1)!)];
    return {
      firstTokenMs: firstMs - startMs,
      modelMs: sum(first.map(({ wallMs }) => wallMs)),
      beforeMs: begin - startMs,
      betweenMs: end - begin - sum(own.map(({ wallMs }) => wallMs)),
      afterMs: firstMs - end,
    };
  });
}

const endOf = ({ startMs, wallMs }: ModelRun) => startMs + wallMs;

/** @param processorMs so far, by process; the worker is one of them, and this command is left out */
export function costOf(
  requests: readonly TimedRequest[],
  runs: readonly ModelRun[],
  processorMs: Readonly<Record<"before" | "after", Readonly<Record<string, number>>>>,
): Load {
  const modelMs = sum(runs.map(({ cpuMs }) => cpuMs));
  const { before, after } = processorMs;
  const aroundMs = Object.fromEntries(
    Object.keys(after)
      .filter((part) => part !== "this command")
      .map((part) => [part, after[part]! - before[part]! - (part === "worker" ? modelMs : 0)]),
  );
  return {
    requests: requests.length,
    tokens: sum(requests.map(({ tokens }) => tokens)),
    aroundMs,
    modelMs,
  };
}

/** @param loads with short and with long replies, and as many requests */
export function profileReport({
  machine,
  options,
  firstTokens,
  loads,
}: Pick<ProfileReport, "machine" | "options"> & {
  readonly firstTokens: readonly FirstTokenTimes[];
  readonly loads: readonly Load[];
}): ProfileReport {
  const summary = (of: (times: FirstTokenTimes) => number) => summarize(firstTokens.map(of))!;
  const firstToken = {
    firstTokenMs: summary((times) => times.firstTokenMs),
    modelMs: summary((times) => times.modelMs),
    beforeMs: summary((times) => times.beforeMs),
    betweenMs: summary((times) => times.betweenMs),
    afterMs: summary((times) => times.afterMs),
    ratio: summary((times) => times.firstTokenMs / times.modelMs),
  };
  const [short, long] = loads as [Load, Load];
  const all = ({ aroundMs }: Load) => sum(Object.values(aroundMs));
  const cost = (part: string, of: (load: Load) => number) => {
    const msPerToken = (of(long) - of(short)) / (long.tokens - short.tokens);
    return {
      part,
      msPerToken,
      msPerRequest: (of(short) - msPerToken * short.tokens) / short.requests,
    };
  };
  const parts = Object.keys(short.aroundMs);
  const around = [
    ...parts.map((part) => cost(part, ({ aroundMs }) => aroundMs[part]!)),
    cost("all", all),
  ];
  return {
    machine,
    options,
    firstToken,
    around,
    targets: [
      atMost("first token, times prefill and one step", [firstToken.ratio.median], 1.5),
      atMost("processor ms per token around the models", [around.at(-1)!.msPerToken], 1),
    ],
  };
}

const ROWS: Readonly<Record<keyof ProfileReport["firstToken"], string>> = {
  firstTokenMs: "request to first token, ms",
  modelMs: "prefill and one step, ms",
  beforeMs: "before the first run, ms",
  betweenMs: "between runs, ms",
  afterMs: "after the last run, ms",
  ratio: "first token, times prefill and one step",
};

export function printProfile({
  machine,
  options,
  firstToken,
  around,
  targets,
}: ProfileReport): void {
  console.log(
    `\n${machine.cores} cores of ${machine.cpu}, Node ${machine.node}\noptions: ${JSON.stringify(options)}\n`,
  );
  printLines([
    ["one request on an idle stack", "median", "range"],
    ...Object.entries(ROWS).map(([key, name]) => {
      const { median, min, max } = firstToken[key as keyof typeof ROWS];
      return [name, formatNumber(median), `${formatNumber(min)} - ${formatNumber(max)}`];
    }),
  ]);
  console.log("\nprocessor time without the models' runs, ms\n");
  printLines([
    ["", "per token", "per request"],
    ...around.map(({ part, msPerToken, msPerRequest }) => [
      part,
      msPerToken.toFixed(3),
      msPerRequest.toFixed(2),
    ]),
  ]);
  console.log("");
  printTargets(targets);
}

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
