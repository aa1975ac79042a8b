/** Checks of the prompts of waiting jobs, with a real Redis. */
import { pino } from "pino";
import { afterAll, expect, test, vi } from "vitest";
import { startRedis } from "../../../infra/stack/redis.ts";
import type { Generation, JobRecord } from "../../../shared/jobs/record.ts";
import { JobStore } from "../../../shared/jobs/store.ts";
import { KEY_RATES_PREFIX, promptChecksKey } from "../../../shared/redis/keys.ts";
import { submitPromptChecks } from "../../../shared/workers/prompt-checks.ts";
import { endIfRefused } from "../../../worker/jobs/prompt-check.ts";
import { TokenizerRequests } from "../../../worker/jobs/tokenizer-requests.ts";
import { connectRedis } from "../../../worker/redis/connection.ts";
import { claimJob } from "../../support/claim.ts";
import { generation, newJob } from "../../support/generation.ts";

const log = pino({ level: "silent" });
const server = await startRedis();
const redis = connectRedis(server.url, log);
const store = new JobStore(redis, 60_000);
const TOO_LONG = { code: "context_length_exceeded", message: "It is too long" } as const;

const prepared: Generation[] = [];
const ends: (JobRecord | null)[] = [];
const engine = {
  cards: [{ id: "atlas-qa" }, { id: "other" }],
  tokenize: () => Promise.reject(new Error("Nothing is tokenized here")),
  prepare: async (_: string, asked: Generation) => {
    prepared.push(asked);
    return asked.seed === 9 ? TOO_LONG : null;
  },
} as unknown as ConstructorParameters<typeof TokenizerRequests>[0]["engine"] &
  Parameters<typeof endIfRefused>[0]["engine"];
const requests = new TokenizerRequests({
  connection: redis,
  engine,
  log,
  checkPrompt: async (id) => void ends.push(await endIfRefused({ store, engine }, id)),
});

afterAll(async () => {
  requests.close();
  redis.disconnect();
  await server.stop();
});

/** A waiting job, whose tokens count towards a limit of 1,000. */
async function waiting(changes: Partial<Generation>): Promise<string> {
  const job = newJob({ generation: generation(changes) });
  const pools = [{ id: "key", limits: { tokens_per_minute: 1_000 } }];
  await store.submitAll([job], { pools, tokens: [100], idempotency: null });
  return job.id;
}

test("a waiting job whose prompt is refused fails before it is taken, and is charged; another one waits on", async () => {
  const refused = await waiting({ seed: 9 });
  const fitting = await waiting({ seed: 1, pairs: [{ model: "other", weight: 1 }] });
  await submitPromptChecks(redis, "atlas-qa", "acme", [refused]);
  await submitPromptChecks(redis, "atlas-qa+other", "acme", [fitting]);
  await submitPromptChecks(redis, "atlas-qa+unknown", "acme", [fitting]);
  await vi.waitUntil(() => ends.length === 2, 10_000);
  expect((await store.record(refused))?.outcome).toMatchObject({ error: TOO_LONG });
  expect((await store.record(fitting))?.state).toBe("queued");
  expect(new Set(ends.map((end) => end?.state))).toEqual(new Set(["failed", undefined]));
  const left = Number(await redis.hget(`${KEY_RATES_PREFIX}key`, "tokens"));
  // Nothing is given back. A minute refills all of it.
  expect(left).toBeGreaterThanOrEqual(800);
  expect(left).toBeLessThan(880);
  await vi.waitUntil(async () => (await redis.zcard(promptChecksKey("acme"))) === 0, 10_000);
});

test("a job that a worker has taken meanwhile is not prepared a second time", async () => {
  const id = await waiting({ seed: 9 });
  await claimJob(redis, id);
  prepared.length = 0;
  expect(await endIfRefused({ store, engine }, id)).toBeNull();
  expect(prepared).toEqual([]);
});
