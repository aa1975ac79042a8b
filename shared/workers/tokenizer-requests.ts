/**
 * Requests for a worker's tokenizers: the edge has none. They are no jobs. They take no slot, are answered within seconds or not at
 * all, and nothing of them is kept. The edge puts a request into the list of its model and waits for the answer; a worker that
 * serves the model takes it, and its prepare thread answers it (worker/jobs/tokenizer-requests.ts).
 *
 * The answer is written as a log with one entry, in the form of a job's log, so that the edge waits for it as for a job.
 */
import type { ErrorCode } from "../api/error-codes.ts";
import type { RedisClient } from "../redis/client.ts";
import { NOW_LUA } from "../redis/clock.ts";
import {
  DUE_KEY,
  eventChannel,
  KEY_RATES_PREFIX,
  logKey,
  promptCheckQueueKey,
  TOKENIZER_CHANNEL,
  tokenizerPendingKey,
  tokenizerQueueKey,
} from "../redis/keys.ts";
import { defineScript } from "../redis/script.ts";
import { IS_CHECK_OPEN_LUA, type PromptCheck } from "./prompt-checks.ts";

/** A request to a tokenizer. */
export type TokenizerQuestion =
  | {
      readonly kind: "encode";
      /** An `Input` of a job record, which this folder does not know. */
      readonly input: { readonly kind: string };
      /** Whether a text gets the tokens that a prompt gets, such as one for its beginning. */
      readonly addSpecialTokens: boolean;
      readonly withTexts: boolean;
    }
  | { readonly kind: "decode"; readonly ids: readonly number[] }
  | { readonly kind: "info" };

export type TokenizerAnswer =
  | { readonly kind: "encode"; readonly ids: readonly number[]; readonly texts: string[] | null }
  | { readonly kind: "decode"; readonly text: string }
  /** The members of tokenizer_config.json, with the chat template. */
  | { readonly kind: "info"; readonly info: Readonly<Record<string, unknown>> }
  | {
      readonly kind: "error";
      readonly code: ErrorCode;
      readonly message: string;
      readonly param: string | null;
    };

/** A request as it waits in Redis. */
export interface TokenizerRequest {
  readonly id: string;
  readonly tenant: string;
  readonly model: string;
  readonly question: TokenizerQuestion;
}

/** An API key with a limit of requests per minute. */
export interface RequestPool {
  readonly id: string;
  readonly requestsPerMinute: number;
}

/** Milliseconds for which a request waits for its answer. */
export const TOKENIZER_WAIT_MS = 5_000;
/** Requests of one tenant that wait at once. */
export const TOKENIZER_PENDING_MAX = 8;
/** Milliseconds for which an answer can be read. */
const ANSWER_MS = 10_000;
/** Requests that are too old, which one call drops at most. */
const DROPPED_MAX = 100;

/**
 * KEYS: queue of the model, pending requests of the tenant, then rates of each pool.
 * ARGV: id, request (JSON), model, then requests per minute of each pool.
 * Returns {'accepted'}, {'pending'} if too many of the tenant wait, or {'limited', index of the pool, ms until it allows a request}.
 * Lists, sets and rates expire by themselves.
 */
const submitRequest = defineScript(`
${NOW_LUA}
local queue, pending = KEYS[1], KEYS[2]
local id, request, model = unpack(ARGV)
redis.call('ZREMRANGEBYSCORE', pending, '-inf', nowMs)
if redis.call('ZCARD', pending) >= ${TOKENIZER_PENDING_MAX} then return {'pending'} end
local left = {}
for i = 3, #KEYS do
  local limit = tonumber(ARGV[i + 1])
  local stored = redis.call('HMGET', KEYS[i], 'requests', 'requestsAtMs')
  left[i] = limit
  if stored[1] then left[i] = math.min(limit, stored[1] + limit * math.max(0, nowMs - stored[2]) / 60000) end
  if left[i] < 1 then return {'limited', i - 3, math.ceil((1 - left[i]) * 60000 / limit)} end
end
for i = 3, #KEYS do
  redis.call('HSET', KEYS[i], 'requests', left[i] - 1, 'requestsAtMs', nowMs)
  redis.call('PEXPIRE', KEYS[i], 120000)
end
local untilMs = nowMs + ${TOKENIZER_WAIT_MS}
redis.call('ZADD', pending, untilMs, id)
redis.call('RPUSH', queue, string.format('%.0f', untilMs) .. ' ' .. request)
for _, key in ipairs({queue, pending}) do redis.call('PEXPIRE', key, ${2 * TOKENIZER_WAIT_MS}) end
redis.call('PUBLISH', '${TOKENIZER_CHANNEL}', model)
return {'accepted'}
`);

/**
 * KEYS: queue of a model, queue of the prompt checks of the lane with that name. Returns the oldest request (JSON) that somebody still
 * waits for, then the oldest check that is still of use, or nil.
 */
const takeRequest = defineScript(`
${NOW_LUA}${IS_CHECK_OPEN_LUA}
for _ = 1, ${DROPPED_MAX} do
  local entry, isCheck = redis.call('LPOP', KEYS[1]), false
  if not entry then entry, isCheck = redis.call('LPOP', KEYS[2]), true end
  if not entry then return nil end
  local untilMs, request = string.match(entry, '^(%d+) (.*)$')
  if tonumber(untilMs) > nowMs and (not isCheck or isCheckOpen(request)) then return request end
end
return nil
`);

/** KEYS: due jobs, log, channel, pending requests of the tenant. ARGV: id, answer (JSON). It works also when Redis is full. */
const answerRequest = defineScript(`
local due, log, channel, pending = unpack(KEYS)
local id, answer = unpack(ARGV)
redis.call('ZREM', due, '')
redis.call('ZREM', pending, id)
redis.call('DEL', log)
redis.call('XADD', log, '1-0', 'type', 'succeeded', 'data', answer)
redis.call('PEXPIRE', log, ${ANSWER_MS})
redis.call('PUBLISH', channel, '1\\nsucceeded\\n' .. answer)
return 1
`);

export type SubmitResult =
  | { readonly status: "accepted" | "pending" }
  | { readonly status: "limited"; readonly pool: number; readonly waitMs: number };

/** Puts a request into its model's queue, if the limits of its API key and of its tenant allow it. */
export async function submitTokenizerRequest(
  redis: RedisClient,
  request: TokenizerRequest,
  pools: readonly RequestPool[],
): Promise<SubmitResult> {
  const { id, tenant, model } = request;
  const rates = pools.map((pool) => KEY_RATES_PREFIX + pool.id);
  const reply = (await submitRequest(
    redis,
    [tokenizerQueueKey(model), tokenizerPendingKey(tenant), ...rates],
    [id, JSON.stringify(request), model, ...pools.map((pool) => pool.requestsPerMinute)],
  )) as ["accepted" | "pending"] | ["limited", number, number];
  if (reply[0] !== "limited") return { status: reply[0] };
  return { status: "limited", pool: reply[1], waitMs: reply[2] };
}

/** Takes the oldest request for a model, or else the oldest prompt check of a lane; null if none waits. @param lane or model */
export async function takeTokenizerRequest(
  redis: RedisClient,
  lane: string,
): Promise<TokenizerRequest | PromptCheck | null> {
  const keys = [tokenizerQueueKey(lane), promptCheckQueueKey(lane)];
  const request = (await takeRequest(redis, keys, [])) as string | null;
  return request === null ? null : (JSON.parse(request) as TokenizerRequest | PromptCheck);
}

export async function answerTokenizerRequest(
  redis: RedisClient,
  { id, tenant }: TokenizerRequest,
  answer: TokenizerAnswer,
): Promise<void> {
  const keys = [DUE_KEY, logKey(id), eventChannel(id), tokenizerPendingKey(tenant)];
  await answerRequest(redis, keys, [id, JSON.stringify(answer)]);
}
