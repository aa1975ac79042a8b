/** Medians over the rounds, ratios within a round, and the targets. */
import { atLeast, atMost, printTargets, type RatedTarget } from "../rated-target.ts";
import { summarize, type Summary } from "../statistics.ts";
import { formatNumber, printLines } from "../table.ts";
import type { Machine } from "../machine.ts";
import type { Measurement } from "./measure.ts";
import { fastestLlama, type Turn } from "./rounds.ts";
import { OWN_BASE, STEERED, type Form } from "./servers.ts";

interface Row {
  readonly form: Form;
  readonly clients: number;
  readonly server: string;
  readonly rounds: number;
  /** Rounds that the limit of a measurement's time has cut off. */
  readonly roundsCut: number;
  readonly tokensPerSecond: Summary;
  readonly firstTokenMs: Summary;
  readonly firstTokenP90Ms: Summary;
}

/** The steered server beside a base alone. Null: not measured. */
interface Ratios {
  readonly form: Form;
  readonly clients: number;
  /** Tokens/s, to the faster llama.cpp server. */
  readonly toLlama: Summary | null;
  readonly toOwnBase: Summary | null;
  /** Tokens/s of our own base to llama.cpp's. */
  readonly ownBaseToLlama: Summary | null;
  /** Time to the first token. */
  readonly firstTokenToLlama: Summary | null;
}

export interface ServingReport {
  readonly machine: Machine;
  readonly options: Readonly<Record<string, unknown>>;
  /** Cores that other programs used. */
  readonly otherCores: Summary | null;
  readonly rows: readonly Row[];
  readonly ratios: readonly Ratios[];
  readonly targets: readonly RatedTarget[];
  readonly seconds: number;
}

/** Other programs that use more cores than this make the figures worthless. */
const OTHER_CORES_MAX = 0.1;

export function servingReport(
  turns: readonly Turn[],
  rest: Pick<ServingReport, "machine" | "options" | "seconds">,
): ServingReport {
  const groups = Object.values(
    Object.groupBy(turns, ({ form, clients }) => `${form} ${clients}`),
  ) as Turn[][];
  const ratios = groups.map(ratiosOf);
  const otherCores = turns
    .flatMap(({ measured }) => Object.values(measured))
    .flatMap(({ otherCores }) => otherCores ?? []);
  return {
    ...rest,
    otherCores: summarize(otherCores),
    rows: groups.flatMap(rowsOf),
    ratios,
    targets: targetsOf(ratios),
  };
}

function rowsOf(turns: readonly Turn[]): Row[] {
  const { form, clients } = turns[0]!;
  const names = new Set(turns.flatMap(({ measured }) => Object.keys(measured)));
  return [...names].toSorted().map((server) => {
    const samples = turns.flatMap(({ measured }) => measured[server] ?? []);
    const summary = (of: (one: Measurement) => number) => summarize(samples.map(of))!;
    return {
      form,
      clients,
      server,
      rounds: samples.length,
      roundsCut: samples.filter(({ isCut }) => isCut).length,
      tokensPerSecond: summary((one) => one.tokensPerSecond),
      firstTokenMs: summary((one) => one.firstTokenMs),
      firstTokenP90Ms: summary((one) => one.firstTokenP90Ms),
    };
  });
}

function ratiosOf(turns: readonly Turn[]): Ratios {
  const { form, clients } = turns[0]!;
  const ratio = (
    of: (one: Measurement) => number,
    above: string,
    below: (turn: Turn) => string | null,
  ) =>
    summarize(
      turns.flatMap((turn) => {
        const [a, b] = [turn.measured[above], turn.measured[below(turn) ?? ""]];
        // A measurement that was cut off has mostly the time of prompts.
        return a && b && !a.isCut && !b.isCut ? of(a) / of(b) : [];
      }),
    );
  const speed = ({ tokensPerSecond }: Measurement) => tokensPerSecond;
  return {
    form,
    clients,
    toLlama: ratio(speed, STEERED, fastestLlama),
    toOwnBase: ratio(speed, STEERED, () => OWN_BASE),
    ownBaseToLlama: ratio(speed, OWN_BASE, fastestLlama),
    firstTokenToLlama: ratio(({ firstTokenMs }) => firstTokenMs, STEERED, fastestLlama),
  };
}

function targetsOf(ratios: readonly Ratios[]): RatedTarget[] {
  const medians = (of: (one: Ratios) => Summary | null, counts?: readonly number[]) =>
    ratios
      .filter(({ clients }) => counts?.includes(clients) ?? true)
      .flatMap((one) => of(one)?.median ?? []);
  return [
    atLeast(
      "tokens/s, times llama.cpp's base alone",
      medians(({ toLlama }) => toLlama),
      1.5,
    ),
    atLeast(
      "tokens/s, times our own base alone, 8 and 32 clients",
      medians(({ toOwnBase }) => toOwnBase, [8, 32]),
      0.83,
    ),
    atLeast(
      "tokens/s, times our own base alone, 1 and 4 clients",
      medians(({ toOwnBase }) => toOwnBase, [1, 4]),
      1,
    ),
    atMost(
      "first token, times llama.cpp's",
      medians((one) => one.firstTokenToLlama),
      1,
    ),
  ].filter(({ measured }) => Number.isFinite(measured));
}

export function printServing(report: ServingReport): void {
  const { machine, options, otherCores, rows, ratios, targets, seconds } = report;
  console.log(
    `\n${machine.cores} cores of ${machine.cpu}, Node ${machine.node}; ${seconds} s\noptions: ${JSON.stringify(options)}\n`,
  );
  printLines([
    ["form", "clients", "server", "rounds", "tokens/s", "range", "first token ms", "p90"],
    ...rows.map(({ form, clients, server, rounds, ...row }) => [
      form,
      String(clients),
      server,
      row.roundsCut > 0 ? `${rounds}, ${row.roundsCut} cut off` : String(rounds),
      formatNumber(row.tokensPerSecond.median),
      `${formatNumber(row.tokensPerSecond.min)} - ${formatNumber(row.tokensPerSecond.max)}`,
      formatNumber(row.firstTokenMs.median),
      formatNumber(row.firstTokenP90Ms.median),
    ]),
  ]);
  console.log("\nsteered beside the base alone; llama.cpp with the faster number of threads\n");
  const times = (ratio: Summary | null) => (ratio ? `${ratio.median.toFixed(2)}x` : "");
  printLines([
    ["form", "clients", "llama.cpp", "own base", "own base / llama.cpp", "first token / llama.cpp"],
    ...ratios.map(({ form, clients, ...one }) => [
      form,
      String(clients),
      times(one.toLlama),
      times(one.toOwnBase),
      times(one.ownBaseToLlama),
      times(one.firstTokenToLlama),
    ]),
  ]);
  console.log("");
  printTargets(targets);
  if (!otherCores) return;
  const isBusy = otherCores.median > OTHER_CORES_MAX;
  console.log(
    `\nother programs used ${otherCores.median.toFixed(2)} cores (up to ${otherCores.max.toFixed(2)})${isBusy ? ": the machine was busy, these figures are no result" : ""}`,
  );
}
