/**
 * How much KV cache jobs need, and the longest job that the budget holds. The edge refuses a job that fits no worker's budget
 * (shared/submission/job-room.ts). An output whose length is not known there ends where the budget does, as at the end of the
 * context.
 */
import { contextLengthExceeded } from "../../shared/api/context-length.ts";
import type { JobTokensMax } from "../../shared/workers/model-card.ts";
import type { PreparedGeneration } from "../engine-client/messages.ts";
import { hostOf, type Decoder } from "./decoder/decoder.ts";
import { buildModelSet, type SteeredModels } from "./loop/model-set.ts";
import type { Models } from "./model/ensemble.ts";

const REASON = "This is what the KV caches of the worker hold.";

/** The KV cache of one model for one job. */
export interface JobCache {
  readonly decoder: Decoder;
  /** Most tokens that it will hold. */
  readonly tokens: number;
}

/** Bytes of these KV caches when all are open at once and each has reached its limit. */
export function cacheBytesNeeded(caches: readonly JobCache[]): number {
  return sum(bytesByDecoder(caches).values());
}

/** Lets each model use its part of the budget, which is at least what these caches need. */
export function divideBudget(caches: readonly JobCache[], cacheBytesMax: number): void {
  const needed = bytesByDecoder(caches);
  const all = sum(needed.values());
  for (const [decoder, bytes] of needed) {
    decoder.limitCache?.(Math.max(bytes, Math.floor((bytes / all) * cacheBytesMax)));
  }
}

function bytesByDecoder(caches: readonly JobCache[]): Map<Decoder, number> {
  const byDecoder = Map.groupBy(caches, (cache) => hostOf(cache.decoder));
  return new Map(
    Array.from(byDecoder, ([decoder, group]) => [
      decoder,
      decoder.cacheBytesFor(group.map(({ tokens }) => tokens)),
    ]),
  );
}

/** The longest jobs of an ensemble that fit the budget when they run alone, at most its context. */
export function jobTokensMax(
  { base, expert, antiexpert }: Models,
  contextTokens: number,
  cacheBytesMax: number,
): JobTokensMax {
  const longest = (decoders: readonly Decoder[]) =>
    longestJob(decoders, contextTokens, cacheBytesMax);
  return { steered: longest([base, expert, antiexpert]), base: longest([base]) };
}

/**
 * The bounds of a prepared generation, so that its KV caches fit the budget. They stay as they are if an earlier attempt, at a worker
 * with a larger budget, has gone beyond them; the scheduler refuses that job.
 * @param resumed tokens that earlier attempts generated
 * @throws AppError context_length_exceeded if the prompt, or a completion to score, does not fit
 */
export function fitToBudget(
  { maxTokens, cacheTokensMax, forcedTokens }: PreparedGeneration,
  steered: SteeredModels,
  { cacheBytesMax, resumed }: { readonly cacheBytesMax: number; readonly resumed: number },
): Pick<PreparedGeneration, "maxTokens" | "cacheTokensMax"> {
  const decoders = buildModelSet(steered).models.map(({ decoder }) => decoder);
  const room = longestJob(decoders, cacheTokensMax, cacheBytesMax);
  const promptTokens = cacheTokensMax - maxTokens;
  const isBeyond = resumed > 0 && room < promptTokens + resumed;
  if (room === cacheTokensMax || isBeyond) return { maxTokens, cacheTokensMax };
  if (forcedTokens) {
    const problem = `However, your completion has ${maxTokens} tokens and the prompt ${promptTokens}. ${REASON}`;
    throw contextLengthExceeded(room, problem, "completion");
  }
  if (room < promptTokens + Math.min(1, maxTokens)) {
    const problem = `However, your messages resulted in ${promptTokens} tokens, and the answer needs room as well. ${REASON}`;
    throw contextLengthExceeded(room, problem, "messages");
  }
  return { maxTokens: room - promptTokens, cacheTokensMax: room };
}

/** Tokens of the longest job of these models that fits the budget, at most `tokensMax`. */
function longestJob(
  decoders: readonly Decoder[],
  tokensMax: number,
  cacheBytesMax: number,
): number {
  const fits = (tokens: number) =>
    cacheBytesNeeded(decoders.map((decoder) => ({ decoder, tokens }))) <= cacheBytesMax;
  if (fits(tokensMax)) return tokensMax;
  let [fitting, tooMany] = [0, tokensMax];
  while (tooMany - fitting > 1) {
    const middle = Math.floor((fitting + tooMany) / 2);
    if (fits(middle)) fitting = middle;
    else tooMany = middle;
  }
  return fitting;
}

const sum = (values: Iterable<number>) => [...values].reduce((all, one) => all + one, 0);
