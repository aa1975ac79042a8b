/**
 * The engine thread: models, caches and the decode loops of all running generations.
 * onnxruntime blocks the thread that calls it, so locks, Redis and health live on the main thread and never here.
 * Runs take turns by themselves: each model run ends in a trip through the event loop, where the others wait.
 */
import { parentPort, workerData } from "node:worker_threads";
import { AppError } from "../../shared/errors.ts";
import { Output } from "../decode/output.ts";
import { Sampler } from "../decode/sampler.ts";
import { generate, type Prompts } from "../generate.ts";
import { loadEnsembles, type Ensemble } from "../model/ensemble.ts";
import { readManifest } from "../model/manifest.ts";
import type { EngineOptions, FromEngine, RunEvent, StartRequest, ToEngine } from "./messages.ts";

const port = parentPort!;
const send = (message: FromEngine) => port.postMessage(message);
/** Runs in progress, and whether each was asked to stop. */
const running = new Map<number, { stopped: boolean }>();

try {
  const { manifestFile, intraOpThreads } = workerData as EngineOptions;
  const ensembles = await loadEnsembles(readManifest(manifestFile), { intraOpThreads });
  port.on("message", (message: ToEngine) => {
    if (message.type === "start") void run(ensembles, message);
    const state = running.get(message.run);
    if (state && message.type === "stop") state.stopped = true;
  });
  send({ type: "ready", cards: Array.from(ensembles.values(), ({ card }) => card) });
} catch (error) {
  send({ type: "unfit", reason: reasonOf(error) });
}

async function run(
  ensembles: ReadonlyMap<string, Ensemble>,
  { run, generation, resume }: StartRequest,
): Promise<void> {
  const tell = (event: RunEvent) => send({ type: "run", run, event });
  const state = { stopped: false };
  running.set(run, state);
  try {
    const ensemble = ensembles.get(generation.model);
    if (!ensemble) {
      throw new AppError("model_not_found", `this worker does not serve ${generation.model}`);
    }
    const prompts = ensemble.encode(generation.input);
    const promptTokens = prompts.base.length;
    const maxTokens = room(ensemble, prompts, generation.maxTokens);
    const output = new Output({
      decode: ensemble.decode,
      stop: generation.stop,
      eosIds: ensemble.eosIds,
      maxTokens,
    });
    const sampler = new Sampler(generation, prompts.base, ensemble.unusedIds);
    const { alpha } = generation;
    const steps = generate(ensemble.models, { prompts, alpha, resume, sampler, output });
    for await (const { token, text } of steps) {
      tell({ type: "token", token, text });
      if (state.stopped) break;
    }
    tell({ type: "end", finish: output.finish, promptTokens });
  } catch (error) {
    const code = error instanceof AppError ? error.code : "internal";
    tell({ type: "failed", code, message: reasonOf(error) });
  } finally {
    running.delete(run);
  }
}

/** Tokens that may be generated: what was asked for, as far as the context reaches. */
function room(ensemble: Ensemble, prompts: Prompts, maxTokens: number): number {
  const { contextTokens } = ensemble.card;
  const longest = Math.max(prompts.base.length, prompts.expert.length, prompts.antiexpert.length);
  if (longest >= contextTokens) {
    throw new AppError(
      "context_length_exceeded",
      `the prompt has ${longest} tokens; the context of ${ensemble.card.id} has room for ` +
        `${contextTokens - 1} and an answer`,
      { param: "messages" },
    );
  }
  return Math.min(maxTokens, contextTokens - longest);
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
