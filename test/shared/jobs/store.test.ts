/** Every change of a job, and every change that is refused. */
import { JOB_VERSION } from "../../../shared/redis/version.ts";
import { Redis } from "ioredis";
import { afterAll, describe, expect, inject, test } from "vitest";
import { newId } from "../../../shared/ids.ts";
import type { Outcome } from "../../../shared/api/job-events.ts";
import type { NewJob } from "../../../shared/jobs/record.ts";
import { newJobRecord } from "../../../shared/jobs/new-record.ts";
import { JobStore, NEVER_RAN } from "../../../shared/jobs/store.ts";
import * as keys from "../../../shared/redis/keys.ts";
import { claimJob } from "../../support/claim.ts";
import { generation } from "../../support/generation.ts";

const { DUE_KEY, eventChannel, jobKey, LIST_PLACE_PREFIX, logKey } = keys;
const RETENTION_MS = 60_000;
const redis = new Redis(inject("redisUrl"));
const store = new JobStore(redis, RETENTION_MS);
afterAll(() => redis.disconnect());

const usage = {
  prompt_tokens: 1,
  completion_tokens: 2,
  total_tokens: 3,
  prompt_tokens_details: { cached_tokens: 0 },
  speculation: { drafted_tokens: 0, accepted_tokens: 0 },
};
const success: Outcome = { finish_reason: "stop", usage, error: null };
const piece = (text: string) => ({ ids: Array.from(text, (c) => c.charCodeAt(0)), text });

function newJob(fields: Partial<NewJob> = {}): NewJob {
  return {
    id: newId("job"),
    tenant: "acme",
    generation: generation({ model: "demo", seed: 3 }),
    requestOptions: { user: "u" },
    webhookUrl: null,
    metadata: { a: "b" },
    deadlineInMs: 1_000_000,
    ...fields,
  };
}

async function submitted(fields?: Partial<NewJob>): Promise<string> {
  const job = newJob(fields);
  await store.submit(job);
  return job.id;
}

async function running(): Promise<string> {
  const id = await submitted();
  await claimJob(redis, id);
  return id;
}

const types = async (id: string) => (await store.log(id)).map(({ seq, type }) => `${seq} ${type}`);
const state = async (id: string) => (await store.record(id))?.state;

describe("submit", () => {
  test("writes the job's record, logs the first event and adds the job to the due set", async () => {
    const { deadlineInMs, ...job } = newJob({ webhookUrl: "https://example.com" });
    const beforeMs = Date.now();
    const submitted = await store.submit({ ...job, deadlineInMs });
    const { createdAtMs } = submitted as typeof submitted & { status: "created" };
    expect(createdAtMs).toBeGreaterThanOrEqual(beforeMs);
    expect(createdAtMs).toBeLessThanOrEqual(Date.now());
    const record = await store.record(job.id);
    expect(record).toEqual({
      ...job,
      version: JOB_VERSION,
      claim: "",
      createdAtMs,
      deadlineMs: createdAtMs + deadlineInMs,
      lane: "demo",
      fingerprint: "",
      failures: 0,
      state: "queued",
      attempt: 0,
      seq: 1,
      startByMs: null,
      cost: 1,
      priority: 0,
      startedAtMs: null,
      claimedAtMs: null,
      prefillAtMs: null,
      decodeAtMs: null,
      firstTokenAtMs: null,
      lastTokenAtMs: null,
      promptTokens: 0,
      tokens: 0,
      decodeTokens: 0,
      baseCalls: 0,
      endedAtMs: null,
      deletedAtMs: null,
      cancelRequested: false,
      text: "",
      outcome: undefined,
    });
    expect(await store.log(job.id)).toEqual([{ seq: 1, type: "queued" }]);
    // The answer of a submission shows the same record without reading it.
    expect(newJobRecord({ ...job, deadlineInMs }, createdAtMs)).toEqual({ ...record, cost: 0 });
    expect(await redis.zscore(DUE_KEY, job.id)).toBe(String(createdAtMs + deadlineInMs));
    await store.clearDue(job.id);
    expect(await redis.zscore(DUE_KEY, job.id)).toBeNull();
  });

  test("a second time changes nothing", async () => {
    const job = newJob();
    await store.submit(job);
    await claimJob(redis, job.id);
    await store.submit(job);
    expect(await types(job.id)).toEqual(["1 queued", "2 started"]);
    expect(await state(job.id)).toBe("running");
  });

  test("a second time answers with what the API key has left, and takes nothing from it", async () => {
    const job = newJob();
    const admission = {
      pools: [
        {
          id: newId("key"),
          limits: { requests_per_minute: 1_000, tokens_per_minute: 60_000, concurrent_jobs: 5 },
        },
      ],
      tokens: [100],
      idempotency: null,
    };
    const first = await store.submitAll([job], admission);
    expect(first).toEqual({
      status: "created",
      rateLimits: { requests: 999, tokens: 59_900, jobs: 4 },
      createdAtMs: expect.any(Number),
    });
    const { rateLimits, createdAtMs } = (await store.submitAll(
      [job],
      admission,
    )) as typeof first & {
      status: "created";
    };
    // Both refill: 1,000 tokens in a second.
    expect(rateLimits.requests).toBeGreaterThanOrEqual(999);
    expect(rateLimits.tokens).toBeGreaterThanOrEqual(59_900);
    expect(rateLimits.tokens).toBeLessThanOrEqual(60_000);
    expect(rateLimits.jobs).toBe(4);
    expect(createdAtMs).toBe((await store.record(job.id))?.createdAtMs);
  });

  test("a job that has not ended does not expire", async () => {
    const id = await submitted();
    expect(await redis.pttl(jobKey(id))).toBe(-1);
    expect(await redis.pttl(logKey(id))).toBe(-1);
  });
});

describe("append", () => {
  test("logs tokens from which the text and ids so far can be read", async () => {
    const id = await running();
    expect(await store.appendTokens(id, 1, 0, piece("ab"))).toBe("ok");
    expect(await store.appendTokens(id, 1, 2, piece("c\n"))).toBe("ok");
    expect(await store.progress(id)).toEqual(piece("abc\n"));
    expect((await store.record(id))?.seq).toBe(4);
    expect(await store.log(id, 3)).toEqual([{ seq: 4, type: "tokens", ...piece("c\n") }]);
  });

  test("logs tokens once, however often they are sent", async () => {
    const id = await running();
    await store.appendTokens(id, 1, 0, piece("ab"));
    expect(await store.appendTokens(id, 1, 0, piece("ab"))).toBe("ok");
    expect(await store.appendTokens(id, 1, 2, piece("c"))).toBe("ok");
    expect(await store.progress(id)).toEqual(piece("abc"));
    expect((await store.record(id))?.seq).toBe(4);
  });

  test("refuses tokens that would leave a gap", async () => {
    const id = await running();
    expect(await store.appendTokens(id, 1, 1, piece("b"))).toBe("fenced");
    expect((await store.progress(id)).text).toBe("");
  });

  test("refuses a worker whose job another worker has claimed", async () => {
    const id = await running();
    await claimJob(redis, id);
    expect(await store.appendTokens(id, 1, 0, piece("stale"))).toBe("fenced");
    expect(await store.appendTokens(id, 2, 0, piece("new"))).toBe("ok");
    expect((await store.progress(id)).text).toBe("new");
  });

  test("refuses a job that is not running", async () => {
    const queued = await submitted();
    expect(await store.appendTokens(queued, 0, 0, piece("x"))).toBe("fenced");
    const ended = await running();
    await store.finish(ended, 1, "succeeded", "", success);
    expect(await store.appendTokens(ended, 1, 0, piece("x"))).toBe("fenced");
    expect(await store.appendTokens("job_missing", 1, 0, piece("x"))).toBe("fenced");
    expect(await redis.exists(logKey("job_missing"))).toBe(0);
  });

  test("tells the worker that a cancellation was requested, and still logs", async () => {
    const id = await running();
    expect(await store.cancel(id)).toBe("requested");
    expect(await store.appendTokens(id, 1, 0, piece("x"))).toBe("cancel");
    expect((await store.progress(id)).text).toBe("x");
  });
});

describe("finish", () => {
  test("ends the job with its outcome, and sets when it expires", async () => {
    const id = await running();
    expect(await store.finish(id, 1, "succeeded", "text", success)).toBe(true);
    const record = await store.record(id);
    expect(record).toMatchObject({ state: "succeeded", text: "text", outcome: success });
    expect(record!.deletedAtMs! - record!.endedAtMs!).toBe(RETENTION_MS);
    expect((await store.log(id)).at(-1)).toEqual({ seq: 3, type: "succeeded", ...success });
    for (const key of [jobKey(id), logKey(id)]) {
      expect(await redis.pttl(key)).toBeGreaterThan(RETENTION_MS - 10_000);
    }
    expect(Number(await redis.zscore(DUE_KEY, id)) - record!.endedAtMs!).toBe(10_000);
  });

  test("succeeds once, however many try", async () => {
    const id = await running();
    const ends = await Promise.all([
      store.finish(id, 1, "failed", "", success),
      store.finish(id, 1, "succeeded", "", success),
      store.finish(id, 1, "expired", "", success),
    ]);
    expect(ends.filter(Boolean)).toHaveLength(1);
    expect(await types(id)).toHaveLength(3);
  });

  test("is refused for a worker that has lost the job, and for a job that does not exist", async () => {
    const id = await running();
    await claimJob(redis, id);
    expect(await store.finish(id, 1, "succeeded", "", success)).toBe(false);
    expect(await state(id)).toBe("running");
    expect(await store.finish("job_missing", 0, "expired", "", success)).toBe(false);
    expect(await store.record("job_missing")).toBeNull();
  });

  test("expires a job that no worker has claimed", async () => {
    const id = await submitted();
    expect(await store.finish(id, 0, "expired", "", NEVER_RAN)).toBe(true);
    expect(await state(id)).toBe("expired");
  });

  test("by another process keeps what the job's worker logged after that process has read the job", async () => {
    const id = await running();
    await store.recordPrefill(id, 1, 5);
    await store.appendTokens(id, 1, 0, piece("ab"));
    const record = (await store.record(id))!;
    await store.appendTokens(id, 1, 2, piece("c"));
    const ended = await store.endWithError(record, "expired", null);
    const usage = { prompt_tokens: 5, completion_tokens: 3, total_tokens: 8 };
    expect(ended).toMatchObject({ state: "expired", text: "abc", outcome: { usage } });
    expect((await store.log(id)).at(-1)).toMatchObject({ type: "expired", usage, error: null });
  });

  test("by a worker that has lost the job leaves the job in the due set", async () => {
    const id = await running();
    await claimJob(redis, id);
    await store.finish(id, 1, "succeeded", "", success);
    expect(await redis.zscore(DUE_KEY, id)).not.toBeNull();
  });
});

describe("cancel", () => {
  test("ends a queued job at once, requests it of a running one, and leaves an ended one unchanged", async () => {
    const queued = await submitted();
    expect(await store.cancel(queued)).toBe("cancelled");
    expect(await store.cancel(queued)).toBe("ended");
    expect(await types(queued)).toEqual(["1 queued", "2 cancelled"]);
    expect(await redis.zscore(DUE_KEY, queued)).not.toBeNull();
    const begun = await running();
    expect(await store.cancel(begun)).toBe("requested");
    expect(await store.cancel(begun)).toBe("requested");
    expect(await state(begun)).toBe("running");
    expect((await store.record(begun))?.cancelRequested).toBe(true);
    expect(await store.cancel("job_missing")).toBe("missing");
    expect(await store.record("job_missing")).toBeNull();
  });

  test("is reported to the next worker too if the worker is lost", async () => {
    const id = await running();
    await store.cancel(id);
    await claimJob(redis, id);
    expect(await store.appendTokens(id, 2, 0, piece("x"))).toBe("cancel");
  });
});

test("a job with store: false is kept for ten minutes, or for the retention if that is shorter", async () => {
  const timeToLive = async (retentionMs: number) => {
    const id = await submitted({ requestOptions: { store: false } });
    await new JobStore(redis, retentionMs).finish(id, 0, "expired", "", NEVER_RAN);
    const record = await store.record(id);
    expect(await redis.pttl(jobKey(id))).toBeLessThanOrEqual(Math.min(retentionMs, 600_000));
    return record!.deletedAtMs! - record!.endedAtMs!;
  };
  expect(await timeToLive(86_400_000)).toBe(600_000);
  expect(await timeToLive(60_000)).toBe(60_000);
});

describe("delete", () => {
  test("sends a last event to subscribers, fences the worker, and leaves no key", async () => {
    const id = await running();
    const listener = new Redis(inject("redisUrl"));
    const heard: string[] = [];
    listener.on("message", (_, message) => heard.push(message));
    await listener.subscribe(eventChannel(id));
    await store.delete(id);
    await expect.poll(() => heard).toHaveLength(1);
    listener.disconnect();
    expect(heard[0]).toMatch(/^3\ncancelled\n/);
    expect(await store.appendTokens(id, 1, 0, piece("x"))).toBe("fenced");
    // A page of a list may go on after the deleted job for a while.
    const place = expect.stringContaining(LIST_PLACE_PREFIX);
    expect(await redis.keys(`*${id}*`)).toEqual([place]);
    expect(await redis.zscore(DUE_KEY, id)).toBeNull();
  });

  test("of a job that does not exist does nothing", async () => {
    await store.delete("job_missing");
    expect(await redis.keys("*job_missing*")).toEqual([]);
  });
});

test("the channel publishes what the log has", async () => {
  const id = await submitted();
  const listener = new Redis(inject("redisUrl"));
  const heard: string[] = [];
  listener.on("message", (_, message) => heard.push(message));
  await listener.subscribe(eventChannel(id));
  await claimJob(redis, id);
  await store.appendTokens(id, 1, 0, piece("a\nb"));
  await store.finish(id, 1, "succeeded", "a\nb", success);
  await expect.poll(() => heard).toHaveLength(3);
  listener.disconnect();
  expect(heard.slice(0, 2)).toEqual([
    '2\nstarted\n{"attempt":1}',
    '3\ntokens\n{"ids":[97,10,98],"text":"a\\nb"}',
  ]);
});

test("a record with an unknown state is an error", async () => {
  const id = await submitted();
  await redis.hset(jobKey(id), "state", "confused");
  await expect(store.record(id)).rejects.toThrow("Invalid type");
});
