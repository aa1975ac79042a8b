/**
 * Checks of the prompts of waiting jobs. A worker tokenizes a prompt when it takes its job, so a client whose request waits for a slot would
 * learn too late that the prompt does not fit: its stream has begun. Therefore the edge asks for a check of such a job, in the queue
 * of the requests for tokenizers (tokenizer-requests.ts). One worker takes it and ends the job if its prompt is refused
 * (worker/jobs/prompt-check.ts). A check is best effort: a job that is not checked in time is refused when it is taken.
 */
import type { RedisClient } from "../redis/client.ts";
import {
  JOB_PREFIX,
  promptCheckQueueKey,
  promptChecksKey,
  TOKENIZER_CHANNEL,
} from "../redis/keys.ts";
import { NOW_LUA } from "../redis/clock.ts";
import { defineScript } from "../redis/script.ts";

/** A job whose prompt is to be checked. */
export interface PromptCheck {
  readonly job: string;
  readonly tenant: string;
}

/** Checks of one tenant that wait or are made at once: as many as a streamed request can have prompts. */
export const PROMPT_CHECKS_MAX = 16;
/** Milliseconds for which a check waits. After the reply of its request has begun it still saves the job a wait for a slot. */
const CHECK_MS = 60_000;
/** Checks that wait in a lane; the oldest are dropped. */
const QUEUE_MAX = 4_000;

/**
 * KEYS: queue of the lane, checks of the tenant. ARGV: lane, tenant, then ids of jobs.
 * A job for which the tenant has no more room is left out. Both keys expire.
 */
const submitChecks = defineScript(`
${NOW_LUA}
local queue, checks = unpack(KEYS)
local untilMs = nowMs + ${CHECK_MS}
redis.call('ZREMRANGEBYSCORE', checks, '-inf', nowMs)
for i = 3, math.min(#ARGV, 2 + ${PROMPT_CHECKS_MAX} - redis.call('ZCARD', checks)) do
  redis.call('ZADD', checks, untilMs, ARGV[i])
  redis.call('RPUSH', queue, string.format('%.0f', untilMs) .. ' ' .. cjson.encode({job = ARGV[i], tenant = ARGV[2]}))
end
redis.call('LTRIM', queue, -${QUEUE_MAX}, -1)
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ${2 * CHECK_MS}) end
redis.call('PUBLISH', '${TOKENIZER_CHANNEL}', ARGV[1])
return 1
`);

/** Lua function: whether a check is still of use, because its job waits. */
export const IS_CHECK_OPEN_LUA = `
local function isCheckOpen(check)
  return redis.call('HGET', '${JOB_PREFIX}' .. cjson.decode(check).job, 'state') == 'queued'
end
`;

/** Asks for checks of jobs that wait in a lane. */
export async function submitPromptChecks(
  redis: RedisClient,
  lane: string,
  tenant: string,
  jobIds: readonly string[],
): Promise<void> {
  const keys = [promptCheckQueueKey(lane), promptChecksKey(tenant)];
  await submitChecks(redis, keys, [lane, tenant, ...jobIds]);
}

/** Makes room for another check of the tenant. */
export async function endPromptCheck(
  redis: Pick<RedisClient, "zrem">,
  { job, tenant }: PromptCheck,
): Promise<void> {
  await redis.zrem(promptChecksKey(tenant), job);
}
