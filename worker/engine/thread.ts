/**
 * The engine thread's entry point: it turns messages of the main thread into tasks of the scheduler, and the tasks' tokens
 * into messages. onnxruntime blocks the thread that calls it, so leases, Redis and health checks are on the main thread.
 * The folder engine/ owns the models and the decode loop. It knows no Redis, no queue and no HTTP.
 *
 * One attempt at a job is a run here, a task in the scheduler and a sequence in the batch. It passes through these files:
 * prepare/prepare.ts (on the prepare thread: models, prompts, tokens to score), scheduler.ts (wait for room in the KV cache
 * budget), loop/batch.ts (the decode loop; its header lists the stages of one token), token-details.ts (token texts for
 * log-probabilities and trace), stats.ts (counts for metrics).
 */
import { setFlagsFromString } from "node:v8";
import { parentPort, workerData } from "node:worker_threads";
import { AppError } from "../../shared/api/errors.ts";
import type { ModelCard } from "../../shared/workers/model-card.ts";
import { Output } from "./decode/output.ts";
import { Sampler } from "./decode/sampler.ts";
import { fitToBudget, jobTokensMax } from "./cache-budget.ts";
import type { Ensemble } from "./model/ensemble.ts";
import { LoadedEnsembles } from "./model/load-ensembles.ts";
import { readManifest, type EnsembleEntry } from "./model/manifest.ts";
import type { SteeredModels } from "./loop/model-set.ts";
import { PrefixCache } from "./decoder/prefix-cache.ts";
import { RemoteDecoder } from "./remote/remote-decoder.ts";
import { StatsCollector, type RunRecorder } from "./stats.ts";
import {
  isEndEvent,
  NO_USAGE,
  type EngineOptions,
  type FromEngine,
  type PreparedGeneration,
  type RemoteBaseState,
  type RunEvent,
  type StartRequest,
  type ToEngine,
  type TokenIds,
} from "../engine-client/messages.ts";
import { scoredPrompt } from "./scored-prompt.ts";
import { toTokenDetail, unscoredDetail } from "./token-details.ts";
import { Scheduler, type Task } from "./scheduler.ts";

// Loops over a vocabulary stay in V8's middle compiler, Maglev, and are slow (Node 24.21): the maximum of 32,000 values
// takes 139 µs with Maglev and 26 µs without, a softmax 220 µs and 107 µs.
setFlagsFromString("--no-maglev");

const STATS_INTERVAL_MS = 1000;

const port = parentPort!;
const send = (message: FromEngine) => port.postMessage(message);
const { manifestFile, manifestText, cacheBytesMax, prefixBytesMax, ...options } =
  workerData as EngineOptions;

type Events = (FromEngine & { type: "events" })["events"][number][];
let events: Events = [];

/** One message has the events of all runs in a step: a message for each would wake the main thread as often. */
function sendEvent(run: number, event: RunEvent): void {
  if (events.push({ run, event }) > 1) return;
  queueMicrotask(() => {
    send({ type: "events", events });
    events = [];
  });
}

try {
  const loaded = await LoadedEnsembles.load(readManifest(manifestFile, manifestText), {
    ...options,
    onProgress: (progress) => send({ type: "loading", progress }),
  });
  const { ensembles } = loaded;
  const prefixCache = new PrefixCache(prefixBytesMax);
  const stats = new StatsCollector();
  const scheduler = new Scheduler(cacheBytesMax, prefixCache, (ms) => stats.recordStep(ms));
  const tasks = new Map<number, Task>();
  const bases = () => remoteBases([...ensembles.values()]);
  let changes = Promise.resolve();
  port.on("message", (message: ToEngine) => {
    // A message is handled between two model runs. Ending the thread during a run would abort the process.
    if (message.type === "exit") return void loaded.close().finally(() => process.exit());
    if (message.type === "add" || message.type === "remove") {
      changes = changes
        .then(() => change(loaded, message))
        .then((reply) => {
          send(reply);
          send({ type: "bases", bases: bases() });
        });
      return;
    }
    const { run } = message;
    if (message.type === "stop") {
      const running = tasks.get(run);
      if (running) scheduler.stop(running);
      return;
    }
    const recorder = stats.startRun(message.prepared.generation.model);
    const task = createTask(ensembles, message, recorder, (event) => {
      if (isEndEvent(event)) tasks.delete(run);
      sendEvent(run, event);
    });
    if (!task) return;
    tasks.set(run, task);
    scheduler.submit(task);
  });
  const atStart = [...ensembles.values()];
  // Ensembles that are added later have no others.
  const decoders = new Set(
    atStart.flatMap(({ models: { base, expert, antiexpert } }) => [base, expert, antiexpert]),
  );
  const sendStats = () =>
    send({
      type: "stats",
      stats: {
        ...stats.take(),
        ...scheduler.size,
        awaitsBase: scheduler.awaitsBase,
        cacheBytes: [...decoders].reduce((sum, { cacheBytes }) => sum + cacheBytes, 0),
        prefixBytes: prefixCache.bytes,
      },
    });
  setInterval(sendStats, STATS_INTERVAL_MS);
  for (const { remoteBase } of atStart) {
    if (remoteBase) remoteBase.onChange = () => send({ type: "bases", bases: bases() });
  }
  send({ type: "ready", ...cardsOf(atStart), bases: bases() });
} catch (error) {
  send({ type: "startFailed", reason: errorMessage(error) });
}

/** Cards of ensembles, and the reasons why a model runs slower or a job is shorter than it could be. */
function cardsOf(ensembles: readonly Ensemble[]) {
  const cards = ensembles.map(({ card, models }) => ({
    ...card,
    jobTokensMax: jobTokensMax(models, card.contextTokens, cacheBytesMax),
  }));
  const warnings = ensembles.flatMap((ensemble) => ensemble.warnings);
  return { cards, warnings: [...warnings, ...cards.flatMap(budgetWarning)] };
}

/** Adds or removes ensembles. Sequences go on meanwhile. */
async function change(
  loaded: LoadedEnsembles,
  message: ToEngine & { type: "add" | "remove" },
): Promise<FromEngine> {
  try {
    if (message.type === "remove") {
      await loaded.remove(message.ids);
      return { type: "changed", cards: [], warnings: [] };
    }
    const entries = JSON.parse(message.entries) as EnsembleEntry[];
    return { type: "changed", ...cardsOf(await loaded.add(entries)) };
  } catch (error) {
    return { type: "changeFailed", reason: errorMessage(error) };
  }
}

function budgetWarning({ id, contextTokens, jobTokensMax }: ModelCard): string[] {
  const tokens = jobTokensMax?.steered ?? contextTokens;
  if (tokens >= contextTokens) return [];
  return [`${id}: a job may have ${tokens} of ${contextTokens} tokens: KV_CACHE_MIB holds no more`];
}

function remoteBases(ensembles: readonly Ensemble[]): RemoteBaseState[] {
  return ensembles.flatMap(({ id, remoteBase }) => {
    if (!remoteBase) return [];
    const { problem, warnings, serverText } = remoteBase;
    return [{ model: id, problem, warnings, serverText }];
  });
}

/** Creates the task of a prepared generation. If it cannot run, emits a `failed` event and returns null. */
function createTask(
  ensembles: ReadonlyMap<string, Ensemble>,
  { tenant, prepared, resume, promptLogged }: StartRequest,
  recorder: RunRecorder,
  emit: (event: RunEvent) => void,
): Task | null {
  const fail = (error: unknown, usage = NO_USAGE) => {
    const code = error instanceof AppError ? error.code : "internal";
    emit({ type: "failed", code, message: errorMessage(error), usage });
  };
  try {
    const { generation, grammar, chat } = prepared;
    const { ensemble, steered, prompt, eosIds } = steeredModels(ensembles, prepared);
    const budget = { cacheBytesMax, resumed: resume.length };
    const { maxTokens, cacheTokensMax } = fitToBudget(prepared, steered, budget);
    const scored = scoredPrompt(prepared, prompt, { ids: resume, promptLogged });
    const forcedTokens = prepared.forcedTokens && Array.from(prepared.forcedTokens);
    const { decode, tokenText, unusedIds, silentIds } = ensemble;
    // A completion that is scored ends at its last token; end tokens within it do not end it.
    const endIds = forcedTokens ? new Set<number>() : eosIds;
    const { stop, candidates } = generation;
    const { logprobs = null, trace = false } = generation;
    // With log-probabilities of the prompt every token has an entry, also an end token: evaluators count on it.
    const unlistedIds = generation.promptLogprobs ? new Set<number>() : endIds;
    const constraint = grammar ? ensemble.constrain(grammar, endIds) : null;
    // Not before the models have run: a job that crashes its worker in the first run must have logged nothing.
    const emitUnscored = (baseCalls: number) => {
      for (const token of scored.unscored.splice(0)) {
        const detail = unscoredDetail(token, tokenText);
        emit({ type: "token", token, text: "", baseCalls, detail });
      }
    };
    const isComplete = () => constraint?.isComplete ?? false;
    const output = new Output({ decode, silentIds, stop, eosIds: endIds, maxTokens, isComplete });
    const sampler = new Sampler(generation, prompt, unusedIds, constraint);
    return {
      request: {
        ...steered,
        ...shiftLimits(generation),
        ...(forcedTokens && { forcedTokens }),
        ...(chat && { chat }),
        sampler,
        output,
        ...scored.request,
        tenant,
        ...(logprobs !== null || trace
          ? { analysis: { logprobs, trace, ...(candidates && { candidates }) } }
          : {}),
      },
      cacheTokensMax,
      onStart: () => emit({ type: "prefill", promptTokens: prompt.length }),
      onToken: ({ sequence: { baseCalls }, token, text, analysis }) => {
        emitUnscored(baseCalls);
        if (!analysis?.prompt) recorder.recordToken();
        emit({
          type: "token",
          token,
          text,
          baseCalls,
          ...(analysis && { detail: toTokenDetail(token, analysis, tokenText, unlistedIds) }),
        });
      },
      onEnd: (error, sequence) => {
        const { cachedTokens, drafts, remote, baseCalls } = sequence ?? NO_USAGE;
        // A run that never joined the batch has no prompt tokens to count, unless an earlier attempt prefilled them.
        const promptTokens = sequence || resume.length > 0 ? prompt.length : 0;
        const usage = { promptTokens, baseCalls, cachedTokens, drafts, remote };
        recorder.recordEnd(usage);
        if (error) return fail(error, usage);
        const { finish, stopString } = output;
        if (finish !== null) emitUnscored(baseCalls);
        emit({ type: "end", finish, ...(stopString !== null && { stopString }), usage });
      },
    };
  } catch (error) {
    fail(error);
    return null;
  }
}

/** How the shift depends on the position and on what is known of the base. */
function shiftLimits({
  schedule,
  guards,
  gate,
  pairConflicts,
  baseErrorMax,
  baseErrorAction,
}: PreparedGeneration["generation"]) {
  return {
    ...(schedule && { schedule }),
    ...(guards && { guards }),
    ...(gate && { gate }),
    ...(pairConflicts && { pairConflicts }),
    ...(baseErrorMax !== undefined && { baseErrorMax }),
    fallsBackToBase: baseErrorAction === "base",
  };
}

/**
 * The models and prompts of a generation, the base's whole prompt, and its end tokens: those of all its ensembles.
 * @throws AppError invalid_request
 */
function steeredModels(
  ensembles: ReadonlyMap<string, Ensemble>,
  {
    generation: { model, alpha, pairs, gate },
    prompts,
    pairPrompts,
    scoredPromptTokens,
  }: PreparedGeneration,
): {
  ensemble: Ensemble;
  steered: SteeredModels;
  prompt: readonly number[];
  eosIds: ReadonlySet<number>;
} {
  const ensemble = ensembles.get(model)!;
  if (gate && ensemble.models.base instanceof RemoteDecoder) {
    const message = `steering.gate needs the whole distribution of the base, which the server of ${model}'s base does not give`;
    throw new AppError("invalid_request", message, { param: "steering.gate" });
  }
  // Models with the same prompt have the same array, so that it is copied and compared once.
  const arrays = new Map<TokenIds, readonly number[]>();
  const toArray = (ids: TokenIds): readonly number[] => {
    // The engine reads the end of a prompt that is scored as given tokens.
    const array =
      arrays.get(ids) ?? Array.from(ids.subarray(0, ids.length - (scoredPromptTokens ?? 0)));
    arrays.set(ids, array);
    return array;
  };
  const pairOf = ({ expert, antiexpert }: PreparedGeneration["pairPrompts"][number]) => ({
    expert: toArray(expert),
    antiexpert: toArray(antiexpert),
  });
  const pairEnsembles = pairs?.map((pair) => {
    const other = ensembles.get(pair.model)!;
    if (other.models.base === ensemble.models.base) return other;
    // The edge has compared the model cards, but those may come from another worker.
    const message = `pairs: ${pair.model} has another base model than ${model}`;
    throw new AppError("invalid_request", message, { param: "steering.pairs" });
  });
  const steering = pairs?.map(({ weight }, i) => ({
    weight,
    models: pairEnsembles![i]!.models,
    prompts: pairOf(pairPrompts[i]!),
  }));
  return {
    ensemble,
    steered: {
      models: ensemble.models,
      prompts: { base: toArray(prompts.base), ...pairOf(prompts) },
      alpha,
      ...(steering && { pairs: steering }),
    },
    prompt: Array.from(prompts.base),
    eosIds: new Set([ensemble, ...(pairEnsembles ?? [])].flatMap((each) => [...each.eosIds])),
  };
}

function errorMessage(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
