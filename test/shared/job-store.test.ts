/** Every step a job can take, and every one that is refused. */
import { Redis } from "ioredis";
import { afterAll, describe, expect, inject, test } from "vitest";
import { newId } from "../../shared/api-key.ts";
import type { Outcome } from "../../shared/contract.ts";
import { DeliveryStore } from "../../shared/delivery-store.ts";
import type { NewJob, ValidGeneration } from "../../shared/job.ts";
import { JobStore, NEVER_RAN } from "../../shared/job-store.ts";
import { bellChannel, jobKey, logKey } from "../../shared/redis-keys.ts";
import { messageIdOf } from "../../shared/webhook.ts";

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
    generation: { model: "demo", alpha: 1, seed: 3 } as ValidGeneration,
    asked: { user: "u" },
    webhookUrl: null,
    metadata: { a: "b" },
    createdAtMs: Date.now(),
    deadlineMs: Date.now() + 1_000_000,
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
  await store.claim(id, 3);
  return id;
}

const types = async (id: string) => (await store.log(id)).map(({ seq, type }) => `${seq} ${type}`);
const state = async (id: string) => (await store.record(id))?.state;

describe("submit", () => {
  test("records the job as it was given, logs its first event and lists its deadline", async () => {
    const job = newJob({ webhookUrl: "https://example.com", deadlineMs: 1_234.4 });
    await store.submit(job);
    expect(await store.record(job.id)).toEqual({
      ...job,
      deadlineMs: 1_234,
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
      endedAtMs: null,
      deletedAtMs: null,
      cancelRequested: false,
      text: "",
      outcome: undefined,
    });
    expect(await store.log(job.id)).toEqual([{ seq: 1, type: "queued" }]);
    expect(await store.due(2_000, 1_000)).toContain(job.id);
    await store.settle(job.id);
    expect(await store.due(2_000, 1_000)).not.toContain(job.id);
  });

  test("a second time changes nothing", async () => {
    const job = newJob();
    await store.submit(job);
    await store.claim(job.id, 3);
    await store.submit(job);
    expect(await types(job.id)).toEqual(["1 queued", "2 started"]);
    expect(await state(job.id)).toBe("running");
  });

  test("keeps a job that has not ended for as long as it takes", async () => {
    const id = await submitted();
    expect(await redis.pttl(jobKey(id))).toBe(-1);
    expect(await redis.pttl(logKey(id))).toBe(-1);
  });
});

describe("claim", () => {
  test("counts attempts, keeps the first start and stops at the limit", async () => {
    const id = await submitted();
    expect(await store.claim(id, 2)).toMatchObject({ status: "claimed", attempt: 1 });
    const began = (await store.record(id))?.startedAtMs;
    expect(await store.claim(id, 2)).toMatchObject({ status: "claimed", attempt: 2 });
    expect((await store.record(id))?.startedAtMs).toBe(began);
    expect(await store.claim(id, 2)).toEqual({ status: "exhausted", attempt: 2 });
    expect(await types(id)).toEqual(["1 queued", "2 started", "3 started"]);
  });

  test("refuses a job that has ended, and one that does not exist", async () => {
    const id = await running();
    await store.finish(id, 1, "succeeded", "", success);
    expect(await store.claim(id, 3)).toEqual({ status: "ended", attempt: 1 });
    expect(await store.claim("job_missing", 3)).toEqual({ status: "missing" });
    expect(await store.record("job_missing")).toBeNull();
  });
});

describe("append", () => {
  test("logs tokens from which text and ids can be told at any time", async () => {
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

  test("refuses a worker that lost the job to another", async () => {
    const id = await running();
    await store.claim(id, 3);
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

  test("tells its worker that a cancel was asked for, and still logs", async () => {
    const id = await running();
    expect(await store.cancel(id)).toBe("asked");
    expect(await store.appendTokens(id, 1, 0, piece("x"))).toBe("cancel");
    expect((await store.progress(id)).text).toBe("x");
  });
});

describe("finish", () => {
  test("ends the job with its outcome, and sets the time to live", async () => {
    const id = await running();
    expect(await store.finish(id, 1, "succeeded", "text", success)).toBe(true);
    const record = await store.record(id);
    expect(record).toMatchObject({ state: "succeeded", text: "text", outcome: success });
    expect(record!.deletedAtMs! - record!.endedAtMs!).toBe(RETENTION_MS);
    expect((await store.log(id)).at(-1)).toEqual({ seq: 3, type: "succeeded", ...success });
    for (const key of [jobKey(id), logKey(id)]) {
      expect(await redis.pttl(key)).toBeGreaterThan(RETENTION_MS - 10_000);
    }
    expect(await store.due(Date.now(), 10_000)).not.toContain(id);
    expect(await store.due(Date.now() + 10_000, 10_000)).toContain(id);
  });

  test("happens once, whoever tries", async () => {
    const id = await running();
    const ends = await Promise.all([
      store.finish(id, 1, "failed", "", success),
      store.finish(id, 1, "succeeded", "", success),
      store.finish(id, 1, "expired", "", success),
    ]);
    expect(ends.filter(Boolean)).toHaveLength(1);
    expect(await types(id)).toHaveLength(3);
  });

  test("is refused to a worker that lost the job, and for a job that does not exist", async () => {
    const id = await running();
    await store.claim(id, 3);
    expect(await store.finish(id, 1, "succeeded", "", success)).toBe(false);
    expect(await state(id)).toBe("running");
    expect(await store.finish("job_missing", 0, "expired", "", success)).toBe(false);
    expect(await store.record("job_missing")).toBeNull();
  });

  test("expires a job that no worker has", async () => {
    const id = await submitted();
    expect(await store.finish(id, 0, "expired", "", NEVER_RAN)).toBe(true);
    expect(await state(id)).toBe("expired");
  });

  test("of a worker that lost the job leaves its deadline to the one that has it", async () => {
    const id = await running();
    await store.claim(id, 3);
    await store.finish(id, 1, "succeeded", "", success);
    expect(await store.due(Infinity, 10_000)).toContain(id);
  });
});

describe("cancel", () => {
  test("ends a queued job at once, asks a running one, and leaves an ended one", async () => {
    const queued = await submitted();
    expect(await store.cancel(queued)).toBe("cancelled");
    expect(await store.cancel(queued)).toBe("ended");
    expect(await types(queued)).toEqual(["1 queued", "2 cancelled"]);
    expect(await store.due(Infinity, 10_000)).toContain(queued);
    const begun = await running();
    expect(await store.cancel(begun)).toBe("asked");
    expect(await store.cancel(begun)).toBe("asked");
    expect(await state(begun)).toBe("running");
    expect((await store.record(begun))?.cancelRequested).toBe(true);
    expect(await store.cancel("job_missing")).toBe("missing");
    expect(await store.record("job_missing")).toBeNull();
  });

  test("outlives the worker that was asked: the next one is told as well", async () => {
    const id = await running();
    await store.cancel(id);
    await store.claim(id, 3);
    expect(await store.appendTokens(id, 2, 0, piece("x"))).toBe("cancel");
  });
});

test("a job that asked not to be stored is kept for minutes, or less where none is kept longer", async () => {
  const kept = async (retentionMs: number) => {
    const id = await submitted({ asked: { store: false } });
    await new JobStore(redis, retentionMs).finish(id, 0, "expired", "", NEVER_RAN);
    const record = await store.record(id);
    expect(await redis.pttl(jobKey(id))).toBeLessThanOrEqual(Math.min(retentionMs, 600_000));
    return record!.deletedAtMs! - record!.endedAtMs!;
  };
  expect(await kept(86_400_000)).toBe(600_000);
  expect(await kept(60_000)).toBe(60_000);
});

describe("delete", () => {
  test("ends a running job for its readers, fences its worker, and leaves nothing", async () => {
    const id = await running();
    const listener = new Redis(inject("redisUrl"));
    const heard: string[] = [];
    listener.on("message", (_, message) => heard.push(message));
    await listener.subscribe(bellChannel(id));
    await store.delete(id);
    await expect.poll(() => heard).toHaveLength(1);
    listener.disconnect();
    expect(heard[0]).toMatch(/^3\ncancelled\n/);
    expect(await store.appendTokens(id, 1, 0, piece("x"))).toBe("fenced");
    expect(await store.claim(id, 3)).toEqual({ status: "missing" });
    expect(await redis.keys(`*${id}*`)).toEqual([]);
    expect(await store.due(Infinity, 10_000)).not.toContain(id);
  });

  test("of a job that does not exist does nothing", async () => {
    await store.delete("job_missing");
    expect(await redis.keys("*job_missing*")).toEqual([]);
  });
});

test("the bell says what the log says", async () => {
  const id = await submitted();
  const listener = new Redis(inject("redisUrl"));
  const heard: string[] = [];
  listener.on("message", (_, message) => heard.push(message));
  await listener.subscribe(bellChannel(id));
  await store.claim(id, 3);
  await store.appendTokens(id, 1, 0, piece("a\nb"));
  await store.finish(id, 1, "succeeded", "a\nb", success);
  await expect.poll(() => heard).toHaveLength(3);
  listener.disconnect();
  expect(heard.slice(0, 2)).toEqual([
    '2\nstarted\n{"attempt":1}',
    '3\ntokens\n{"ids":[97,10,98],"text":"a\\nb"}',
  ]);
});

test("the owner's view of a job has its deliveries", async () => {
  const id = await submitted({ webhookUrl: "https://example.com/hook" });
  const record = (await store.record(id))!;
  const deliveries = new DeliveryStore(redis);
  const message = { id: messageIdOf(id), type: "job.failed", body: "{}", jobId: id };
  const to = { endpointId: null, url: record.webhookUrl };
  const delivery = await deliveries.create(record.tenant, message, to);
  const attempt = { attempt: 1, at: 2, status: 500, error: null, duration_ms: 3 };
  await deliveries.record(record.tenant, delivery, attempt, "pending", 4);
  const view = await store.view(record);
  expect(view.webhook).toEqual({ url: "https://example.com/hook", deliveries: [attempt] });
  expect(view).toMatchObject({ metadata: { a: "b" }, seed: 3, steering: { alpha: 1 } });
});

test("what is told of tokens is in the log, and in the owner's view before and after the end", async () => {
  const generation = {
    model: "demo",
    alpha: 1,
    seed: 3,
    logprobs: 0,
  } as unknown as ValidGeneration;
  const id = await submitted({ generation });
  await store.claim(id, 3);
  const entries = ["a", "b", "c"].map((token, i) => ({
    id: 97 + i,
    token,
    logprob: -1 - i,
    top: [],
  }));
  await store.appendTokens(id, 1, 0, { ...piece("a"), logprobs: entries.slice(0, 1) });
  await store.appendTokens(id, 1, 1, { ...piece("bc"), logprobs: entries.slice(1) });
  const output = async () => (await store.view((await store.record(id))!)).output;
  const told = { text: "abc", finish_reason: null, logprobs: entries };
  expect(await output()).toEqual(told);
  await store.finish(id, 1, "succeeded", "abc", success);
  expect(await output()).toEqual({ ...told, finish_reason: "stop" });
});

test("a record that something else wrote is an error, not a surprise", async () => {
  const id = await submitted();
  await redis.hset(jobKey(id), "state", "confused");
  await expect(store.record(id)).rejects.toThrow("Invalid type");
});
