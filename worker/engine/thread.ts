/**
 * The engine thread: models, caches and the decode loop. onnxruntime blocks the thread that calls it, so locks, Redis and
 * health live on the main thread and never here. This file turns messages into tasks of the scheduler and back.
 */
import { setFlagsFromString } from "node:v8";
import { parentPort, workerData } from "node:worker_threads";
import { AppError } from "../../shared/errors.ts";
import { Output } from "../decode/output.ts";
import { Sampler } from "../decode/sampler.ts";
import type { Prompts } from "../row.ts";
import { loadEnsembles, type Ensemble } from "../model/ensemble.ts";
import { readManifest } from "../model/manifest.ts";
import type { EngineOptions, FromEngine, RunEvent, StartRequest, ToEngine } from "./messages.ts";
import { nameReport } from "./report.ts";
import { Scheduler, type Task } from "./scheduler.ts";

// Loops over a vocabulary get stuck in V8's middle compiler (Node 24.21): a maximum of 32,000 takes 139 µs with it and 26
// without, a softmax 220 and 107.
setFlagsFromString("--no-maglev");

const port = parentPort!;
const send = (message: FromEngine) => port.postMessage(message);
const { manifestFile, intraOpThreads, cacheBytesMax } = workerData as EngineOptions;

try {
  const ensembles = await loadEnsembles(readManifest(manifestFile), { intraOpThreads });
  const scheduler = new Scheduler(cacheBytesMax);
  const tasks = new Map<number, Task>();
  port.on("message", (message: ToEngine) => {
    // Read between two model runs, never within one: ending a thread there would abort the process.
    if (message.type === "exit") process.exit();
    const { run } = message;
    const known = tasks.get(run);
    if (message.type === "stop") {
      if (known) scheduler.stop(known);
      return;
    }
    const task = prepareTask(ensembles, message, (event) => {
      if (event.type !== "token") tasks.delete(run);
      send({ type: "run", run, event });
    });
    if (!task) return;
    tasks.set(run, task);
    scheduler.submit(task);
  });
  const loaded = [...ensembles.values()];
  send({
    type: "ready",
    cards: loaded.map(({ card }) => card),
    warnings: loaded.flatMap(({ warnings }) => warnings),
  });
} catch (error) {
  send({ type: "unfit", reason: reasonOf(error) });
}

/** Tokenizes and bounds a generation. Returns null, having told why, if it cannot run. */
function prepareTask(
  ensembles: ReadonlyMap<string, Ensemble>,
  { generation, resume }: StartRequest,
  tell: (event: RunEvent) => void,
): Task | null {
  const fail = (error: unknown) => {
    const code = error instanceof AppError ? error.code : "internal";
    tell({ type: "failed", code, message: reasonOf(error) });
  };
  try {
    const ensemble = ensembles.get(generation.model);
    if (!ensemble) {
      throw new AppError("model_not_found", `this worker does not serve ${generation.model}`);
    }
    const prompts = ensemble.encode(generation.input);
    const promptTokens = prompts.base.length;
    checkIds([...prompts.base, ...prompts.expert, ...prompts.antiexpert, ...resume], ensemble);
    const { maxTokens, tokensMax } = room(ensemble, prompts, generation.maxTokens);
    const { decode, eosIds, models, tokenText, unusedIds } = ensemble;
    const output = new Output({ decode, stop: generation.stop, eosIds, maxTokens });
    const { schedule, guards, logprobs = null, trace = false } = generation;
    const sampler = new Sampler(generation, prompts.base, unusedIds);
    return {
      request: {
        models,
        prompts,
        alpha: generation.alpha,
        ...(schedule && { schedule }),
        ...(guards && { guards }),
        sampler,
        output,
        resume,
        ...(logprobs !== null || trace ? { report: { logprobs, trace } } : {}),
      },
      tokensMax,
      onToken: (token, text, report) =>
        tell({
          type: "token",
          token,
          text,
          ...(report && { report: nameReport(token, report, tokenText) }),
        }),
      onEnd: (error) =>
        error ? fail(error) : tell({ type: "end", finish: output.finish, promptTokens }),
    };
  } catch (error) {
    fail(error);
    return null;
  }
}

/** Tokens that may be generated: what was asked for, as far as the context reaches; and what the caches then hold. */
function room(
  ensemble: Ensemble,
  prompts: Prompts,
  asked: number,
): { maxTokens: number; tokensMax: number } {
  const { contextTokens, id } = ensemble.card;
  const longest = Math.max(prompts.base.length, prompts.expert.length, prompts.antiexpert.length);
  if (longest >= contextTokens) {
    throw new AppError(
      "context_length_exceeded",
      `the prompt has ${longest} tokens; the context of ${id} has room for ${contextTokens - 1} and an answer`,
      { param: "messages" },
    );
  }
  const maxTokens = Math.min(asked, contextTokens - longest);
  return { maxTokens, tokensMax: longest + maxTokens };
}

/** An id without an embedding makes onnxruntime fail the whole batch; a log may be older than the models. */
function checkIds(ids: readonly number[], { card: { id, vocabSize } }: Ensemble): void {
  const bad = ids.find((token) => token >= vocabSize);
  if (bad === undefined) return;
  throw new AppError("invalid_request", `token ${bad} is not among the ${vocabSize} of ${id}`, {
    param: "prompt",
  });
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
