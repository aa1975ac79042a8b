/**
 * `npm run bench:serving`: the same questions over HTTP to the edge (steered, and the base alone) and to a real llama.cpp server with
 * the base alone. Tokens per second and time to the first token of 1 to 32 streaming clients, medians over rounds in turns.
 */
import { availableParallelism } from "node:os";
import { Command, Option } from "commander";
import { describeMachine } from "../machine.ts";
import type { FamilyName } from "../models/family.ts";
import { familyOption } from "./family-option.ts";
import { runBench } from "../run-bench.ts";
import { measure, requestsOf } from "./measure.ts";
import { readQuestions } from "./questions.ts";
import { printServing, servingReport, type ServingReport } from "./report.ts";
import { runRounds, type Turn } from "./rounds.ts";
import { SLOTS, startServers, type Form } from "./servers.ts";

const FORMS: readonly Form[] = ["fp32", "int8"];
const WARM_UP_CLIENTS = 4;
const WARM_UP_MS_MAX = 30_000;
/** Limit of `--tokens`: with the longest prompt it fits into the servers' contexts. */
const TOKENS_MAX = 96;

const { json, ...options } = new Command("npm run bench:serving --")
  .description("compare the whole server, steered, with llama.cpp's and with its own base alone")
  .option("--clients <list>", `streaming clients, at most ${SLOTS}`, numbers(SLOTS), [
    1,
    4,
    8,
    16,
    SLOTS,
  ])
  .option("--rounds <number>", "rounds of each number of clients", number(100), 3)
  .option(
    "--tokens <number>",
    "longest reply; shorter ones end by themselves",
    number(TOKENS_MAX),
    64,
  )
  .option("--minutes <number>", "rounds that would end later are left out", number(600), 13)
  .option(
    "--llama-threads <list>",
    "threads of llama.cpp; the fastest goes on after the first round",
    numbers(1_024),
    [...new Set([1, availableParallelism()])],
  )
  .addOption(
    new Option("--form <list>", "forms of the weights, separated by commas")
      .argParser(forms)
      .default(FORMS),
  )
  .addOption(familyOption())
  .option("--json <file>", "also write the report to this file")
  .parse()
  .opts<{
    clients: readonly number[];
    rounds: number;
    tokens: number;
    minutes: number;
    llamaThreads: readonly number[];
    form: readonly Form[];
    family: FamilyName;
    json?: string;
  }>();

await runBench(bench, printServing, json);
process.exit();

async function bench(): Promise<ServingReport> {
  console.log(`options: ${JSON.stringify(options)}`);
  const startedMs = performance.now();
  const seconds = () => Math.round((performance.now() - startedMs) / 1000);
  const log = (text: string) =>
    process.stderr.write(`${String(seconds()).padStart(5)} s  ${text}\n`);
  const { clients, rounds, tokens, minutes, llamaThreads, family } = options;
  const perRound = clients.reduce((sum, count) => sum + requestsOf(count), 0);
  log("lengths of the steered replies");
  const questions = await readQuestions(rounds * perRound, tokens);
  const turns: Turn[] = [];
  for (const [i, form] of options.form.entries()) {
    log(`${form}: starting the servers`);
    const { servers, parts, stop } = await startServers(family, form, llamaThreads);
    const warmUp = {
      clients: WARM_UP_CLIENTS,
      questions: questions.slice(0, WARM_UP_CLIENTS),
      limitMs: WARM_UP_MS_MAX,
    };
    for (const server of servers) await measure(server, parts, warmUp);
    const now = performance.now();
    const leftMs = startedMs + minutes * 60_000 - now;
    const deadlineMs = now + leftMs / (options.form.length - i);
    const runOptions = { form, clients, rounds, deadlineMs, log };
    turns.push(...(await runRounds(servers, parts, questions, runOptions)));
    await stop();
  }
  return servingReport(turns, { machine: describeMachine(), options, seconds: seconds() });
}

function number(max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (value > 0 && value <= max) return value;
    throw new Error(`expected numbers from 1 to ${max}, not ${text}`);
  };
}

function numbers(max: number): (text: string) => number[] {
  return (text) => text.split(",").map(number(max));
}

function forms(text: string): Form[] {
  return text.split(",").map((name) => {
    const form = FORMS.find((known) => known === name);
    if (form) return form;
    throw new Error(`expected ${FORMS.join(" or ")}, not ${name}`);
  });
}
