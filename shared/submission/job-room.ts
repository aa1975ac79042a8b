/** Refuses a job that fits the KV caches of no worker, before it is queued. */
import { contextLengthExceeded } from "../api/context-length.ts";
import type { AppError } from "../api/errors.ts";
import type { Generation } from "../jobs/record.ts";
import type { JobTokensMax, ModelCard } from "../workers/model-card.ts";
import type { LiveWorker } from "../workers/registry.ts";
import { leastTokens } from "./validate.ts";

/** The workers that serve a model now. */
export interface WorkerLookup {
  workersOf(modelId: string): Promise<readonly LiveWorker[]>;
}

/** A job's tokens as far as they are known here: texts have at least these. */
interface Need {
  readonly prompt: number;
  readonly completion: number;
  readonly output: number;
}

/**
 * Checks the generations of a request, which differ only in their texts. The card has the bounds of one worker, so most requests
 * need no look at the others. Without a live worker nothing is refused: the next one may have room.
 * @param isOpen whether the output may end sooner, because the request does not say how long it is
 * @throws AppError context_length_exceeded
 */
export async function requireRoom(
  workers: WorkerLookup,
  card: ModelCard,
  generations: readonly Generation[],
  isOpen: boolean,
): Promise<void> {
  // Which models other pairs share is not known here; they run at least the base.
  const [first] = generations;
  const kind = first!.alpha === 0 || first!.pairs ? "base" : "steered";
  const own = card.jobTokensMax?.[kind];
  if (own === undefined) return;
  const needs = generations.map((generation) => needOf(generation, card, isOpen));
  const isTooLong = (tokens: number) => needs.some((need) => total(need, card) > tokens);
  if (!isTooLong(own)) return;
  const serving = await workers.workersOf(card.id);
  if (serving.length === 0) return;
  const tokensMax = Math.max(...serving.map((worker) => roomOf(worker, card.id, kind)));
  const k = needs.findIndex((need) => total(need, card) > tokensMax);
  if (k !== -1) throw noRoom(generations[k]!, needs[k]!, tokensMax);
}

/** Most tokens of a job at this worker, as far as it has told. */
function roomOf({ models }: LiveWorker, id: string, kind: keyof JobTokensMax): number {
  return models.find((model) => model.id === id)?.jobTokensMax?.[kind] ?? Infinity;
}

function needOf(generation: Generation, card: ModelCard, isOpen: boolean): Need {
  const { input, completion, maxTokens } = generation;
  const output = isOpen ? Math.min(1, maxTokens) : maxTokens;
  return {
    prompt: leastTokens(input, card),
    completion: completion ? leastTokens(completion, card) : 0,
    output: completion ? 0 : output,
  };
}

/** An output that may go beyond the context ends there. */
const total = ({ prompt, completion, output }: Need, { contextTokens }: ModelCard) =>
  Math.min(prompt + completion + output, contextTokens);

function noRoom({ input }: Generation, need: Need, tokensMax: number): AppError {
  const { prompt, completion, output } = need;
  const ofPrompt = `${input.kind === "tokens" ? "" : "at least "}${prompt} tokens`;
  const reason = "The KV caches of the workers hold no more.";
  const fail = (param: string, problem: string) =>
    contextLengthExceeded(tokensMax, `However, ${problem}. ${reason}`, param);
  if (prompt + Math.min(1, output) > tokensMax) {
    return input.kind === "chat"
      ? fail("messages", `your messages have ${ofPrompt}, and the answer needs room as well`)
      : fail("prompt", `your prompt has ${ofPrompt}, and the answer needs room as well`);
  }
  if (completion > 0) {
    const problem = `your completion has at least ${completion} tokens and the prompt ${ofPrompt}`;
    return fail("completion", problem);
  }
  return fail("max_tokens", `max_tokens is ${output}, and the prompt has ${ofPrompt}`);
}
