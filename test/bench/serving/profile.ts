/**
 * `npm run profile:serving`: what everything around the models costs. On an idle stack, the time from a request to its first token beside
 * that of the prefill and one step; with several clients, the processor time of all processes without the runs of the models, for each token
 * and for each request. The worker computes with one thread, so that a run's processor time is that of the thread that calls it.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { Command, Option } from "commander";
import { processorMs, type Parts } from "../../load/resources.ts";
import { describeMachine } from "../machine.ts";
import type { FamilyName } from "../models/family.ts";
import { familyOption } from "./family-option.ts";
import { runBench } from "../run-bench.ts";
import {
  costOf,
  firstTokenTimes,
  printProfile,
  profileReport,
  type Load,
  type ProfileReport,
  type TimedRequest,
} from "./profile-report.ts";
import { readQuestions, type Question } from "./questions.ts";
import { RUN_LOG_VARIABLE, type ModelRun } from "./run-log.ts";
import { startServers, type Form, type Server } from "./servers.ts";

const PRELOAD = pathToFileURL(join(import.meta.dirname, "run-log.ts")).href;
/** Two lengths of replies tell what a token costs and what a request. */
const REPLY_TOKENS = [4, 64] as const;
const WARM_UP_REQUESTS = 8;

const { json, ...options } = new Command("npm run profile:serving --")
  .description("measure the time and the processor time of everything around the models")
  .option("--clients <number>", "streaming clients", Number, 8)
  .option("--requests <number>", "requests of each measurement", Number, 48)
  .addOption(
    new Option("--form <form>", "form of the weights").choices(["fp32", "int8"]).default("fp32"),
  )
  .addOption(familyOption())
  .option("--json <file>", "also write the report to this file")
  .parse()
  .opts<{ clients: number; requests: number; form: Form; family: FamilyName; json?: string }>();

await runBench(profile, printProfile, json);
process.exit();

async function profile(): Promise<ProfileReport> {
  const folder = mkdtempSync(join(tmpdir(), "trimtab-profile-"));
  const file = join(folder, "runs.jsonl");
  try {
    const { servers, parts, stop } = await startServers(options.family, options.form, [], {
      INTRA_OP_THREADS: "1",
      NODE_OPTIONS: `--import=${PRELOAD}`,
      [RUN_LOG_VARIABLE]: file,
    });
    const [steered] = servers as [Server];
    const questions = await readQuestions(options.requests, REPLY_TOKENS[1]);
    await ask(steered, questions.slice(0, WARM_UP_REQUESTS), options.clients);
    const alone = await ask(steered, questions, 1);
    const loads: Load[] = [];
    for (const replyTokens of REPLY_TOKENS) {
      const asked = questions.map(({ ids }) => ({ ids, replyTokens, isEndless: true }));
      loads.push(await measureLoad(steered, parts, asked, file));
    }
    const firstTokens = firstTokenTimes(alone, readRuns(file));
    await stop();
    return profileReport({ machine: describeMachine(), options, firstTokens, loads });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Streams the replies. */
async function ask(
  server: Server,
  questions: readonly Question[],
  clients: number,
): Promise<TimedRequest[]> {
  const requests: TimedRequest[] = [];
  const signal = new AbortController().signal;
  let next = 0;
  const client = async () => {
    for (let question = questions[next++]; question; question = questions[next++]) {
      const startMs = now();
      let firstMs: number | null = null;
      const tokens = await server.stream(question, () => (firstMs ??= now()), signal);
      requests.push({ startMs, firstMs: firstMs ?? now(), tokens });
    }
  };
  await Promise.all(Array.from({ length: clients }, client));
  return requests;
}

async function measureLoad(
  server: Server,
  parts: Parts,
  questions: readonly Question[],
  file: string,
): Promise<Load> {
  const [startMs, before] = [now(), processorMs(parts)];
  const requests = await ask(server, questions, options.clients);
  const [endMs, after] = [now(), processorMs(parts)];
  const runs = readRuns(file).filter((run) => run.startMs >= startMs && run.startMs <= endMs);
  return costOf(requests, runs, { before, after });
}

function now(): number {
  return performance.timeOrigin + performance.now();
}

function readRuns(file: string): ModelRun[] {
  const lines = readFileSync(file, "utf8").trim().split("\n");
  return lines.map((line) => JSON.parse(line) as ModelRun);
}
