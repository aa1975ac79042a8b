/**
 * The engine thread: models, caches and the decode loop. onnxruntime blocks the thread that calls it, so locks, Redis and
 * health live on the main thread and never here. This file turns messages into tasks of the scheduler and back.
 */
import { setFlagsFromString } from "node:v8";
import { parentPort, workerData } from "node:worker_threads";
import { AppError } from "../../shared/errors.ts";
import { Output } from "../decode/output.ts";
import { Sampler } from "../decode/sampler.ts";
import { loadEnsembles, type Ensemble } from "../model/ensemble.ts";
import { readManifest } from "../model/manifest.ts";
import { PrefixCache } from "../model/prefix-cache.ts";
import { cast, checkIds, type Cast } from "./casting.ts";
import { Counter, type RunCounter } from "./figures.ts";
import { completionOf } from "./completion.ts";
import {
  isLast,
  NOTHING_USED,
  type EngineOptions,
  type FromEngine,
  type RunEvent,
  type StartRequest,
  type ToEngine,
} from "./messages.ts";
import { nameReport } from "./report.ts";
import { Scheduler, type Task } from "./scheduler.ts";

// Loops over a vocabulary get stuck in V8's middle compiler (Node 24.21): a maximum of 32,000 takes 139 µs with it and 26
// without, a softmax 220 and 107.
setFlagsFromString("--no-maglev");

const FIGURES_MS = 1000;

const port = parentPort!;
const send = (message: FromEngine) => port.postMessage(message);
const { manifestFile, cacheBytesMax, prefixBytesMax, ...options } = workerData as EngineOptions;

try {
  const ensembles = await loadEnsembles(readManifest(manifestFile), options);
  const prefixes = new PrefixCache(prefixBytesMax);
  const counter = new Counter();
  const scheduler = new Scheduler(cacheBytesMax, prefixes, (ms) => counter.step(ms));
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
    const task = prepareTask(ensembles, message, counter.run(), (event) => {
      if (isLast(event)) tasks.delete(run);
      send({ type: "run", run, event });
    });
    if (!task) return;
    tasks.set(run, task);
    scheduler.submit(task);
  });
  const loaded = [...ensembles.values()];
  const decoders = new Set(
    loaded.flatMap(({ models: { base, expert, antiexpert } }) => [base, expert, antiexpert]),
  );
  const sendFigures = () =>
    send({
      type: "figures",
      figures: {
        ...counter.take(),
        ...scheduler.size,
        cacheBytes: [...decoders].reduce((sum, { cacheBytes }) => sum + cacheBytes, 0),
        prefixBytes: prefixes.bytes,
      },
    });
  setInterval(sendFigures, FIGURES_MS);
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
  { tenant, generation, resume }: StartRequest,
  counter: RunCounter,
  tell: (event: RunEvent) => void,
): Task | null {
  const fail = (error: unknown, used = NOTHING_USED) => {
    const code = error instanceof AppError ? error.code : "internal";
    tell({ type: "failed", code, message: reasonOf(error), used });
  };
  try {
    const play = cast(ensembles, generation);
    const { casting, ensemble, eosIds } = play;
    const prompt = casting.prompts.base;
    checkIds(resume, ensemble);
    const forced = completionOf(play, generation);
    const { maxTokens, tokensMax } = room(play, forced?.length ?? generation.maxTokens);
    const { decode, tokenText, unusedIds } = ensemble;
    // Nothing but its own end ends a text that is given.
    const ends = forced ? new Set<number>() : eosIds;
    const { grammar, schedule, guards, logprobs = null, trace = false } = generation;
    const constraint = grammar ? ensemble.constrain(grammar, ends) : null;
    const isComplete = () => constraint?.isComplete ?? false;
    const { stop } = generation;
    const output = new Output({ decode, stop, eosIds: ends, maxTokens, isComplete });
    const sampler = new Sampler(generation, prompt, unusedIds, constraint);
    return {
      request: {
        ...casting,
        ...(schedule && { schedule }),
        ...(guards && { guards }),
        ...(forced && { forced }),
        sampler,
        output,
        resume,
        tenant,
        ...(logprobs !== null || trace ? { report: { logprobs, trace } } : {}),
      },
      tokensMax,
      onStart: () => tell({ type: "prefill", promptTokens: prompt.length }),
      onToken: (token, text, report) => {
        counter.token();
        tell({
          type: "token",
          token,
          text,
          ...(report && { report: nameReport(token, report, tokenText) }),
        });
      },
      onEnd: (error, row) => {
        const { cachedTokens, drafts } = row ?? NOTHING_USED;
        // What never had a place in the batch has read no prompt, unless an earlier attempt had.
        const promptTokens = row || resume.length > 0 ? prompt.length : 0;
        const used = { promptTokens, cachedTokens, drafts };
        counter.end(used);
        if (error) return fail(error, used);
        tell({ type: "end", finish: output.finish, used });
      },
    };
  } catch (error) {
    fail(error);
    return null;
  }
}

/** Tokens that may be generated: what was asked for, as far as the context reaches; and what the caches then hold. */
function room(
  { ensemble, promptTokensMax, contextTokens }: Cast,
  asked: number,
): { maxTokens: number; tokensMax: number } {
  const left = contextTokens - promptTokensMax;
  if (left <= 0) {
    throw new AppError(
      "context_length_exceeded",
      `the prompt has ${promptTokensMax} tokens; the context of ${ensemble.card.id} has room for ${contextTokens - 1} and an answer`,
      { param: "messages" },
    );
  }
  const maxTokens = Math.min(asked, left);
  return { maxTokens, tokensMax: promptTokensMax + maxTokens };
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
