/** A repeated request creates no second job, with an `Idempotency-Key` or as a retry of the official client. */
import OpenAI from "openai";
import { beforeEach, describe, expect, test, vi } from "vitest";
import { jobKey, KEY_JOBS_PREFIX } from "../../../shared/redis/keys.ts";
import { card, errorOf, newTenant, play, redis, send, sse, type Client } from "../harness.ts";

const submission = { model: card.id, prompt: "Hello" };
const chat = { model: card.id, messages: [{ role: "user" as const, content: "Hi" }] };
const jobIdOf = (reply: Response) => reply.headers.get("x-trimtab-job-id");

let client: Client;
beforeEach(async () => {
  client = await newTenant();
});

/** Jobs of the key that have not ended. */
const jobCount = (of = client) => redis.scard(KEY_JOBS_PREFIX + of.keyId);

describe("Idempotency-Key", () => {
  const submit = (key: string, fields = {}, by = client) =>
    by.post("/v1/jobs", { ...submission, ...fields }, { "idempotency-key": key });

  test("the same key and body get the same job, marked as a repetition, also after it has ended", async () => {
    const first = await submit('"key 1"');
    const { id } = await first.json<{ id: string }>();
    expect(first.headers.get("idempotent-replayed")).toBeNull();
    const again = await submit('"key 1"');
    expect(again.status).toBe(202);
    expect(again.headers.get("idempotent-replayed")).toBe("true");
    expect(await again.json()).toMatchObject({ id, state: "queued" });
    await play(id, ["done"]);
    expect(await (await submit('"key 1"')).json()).toMatchObject({ id, state: "succeeded" });
  });

  test("many equal requests at once make one job, queued once and counted once", async () => {
    const limited = await newTenant({ limits: { requests_per_minute: 1, concurrent_jobs: 1 } });
    const replies = await Promise.all(Array.from({ length: 10 }, () => submit("k", {}, limited)));
    expect(new Set(replies.map((reply) => reply.status))).toEqual(new Set([202]));
    expect(new Set(replies.map(jobIdOf)).size).toBe(1);
    expect(await jobCount(limited)).toBe(1);
  });

  test("another body with the same key is refused, on any route", async () => {
    await submit("k");
    const others = [
      submit("k", { seed: 1 }),
      client.post("/v1/completions", submission, { "idempotency-key": '"k"' }),
    ];
    for (const reply of await Promise.all(others)) {
      expect(await errorOf(reply)).toMatchObject({
        status: 422,
        code: "idempotency_key_reused",
        param: "Idempotency-Key",
      });
      expect(reply.headers.get("x-should-retry")).toBe("false");
    }
    expect(await jobCount()).toBe(1);
  });

  test("belongs to the tenant: its other API keys get the same job, another tenant's key makes a new one", async () => {
    const id = jobIdOf(await submit("shared"));
    expect(jobIdOf(await submit("shared", {}, await newTenant({}, client.tenant)))).toBe(id);
    expect(jobIdOf(await submit("shared", {}, await newTenant()))).not.toBe(id);
  });

  test("a repeated chat, complete or streamed, is answered from the same job", async () => {
    const ask = (fields: object, key: string) =>
      client.post("/v1/chat/completions", { ...chat, ...fields }, { "idempotency-key": key });
    const whole = ask({}, "whole");
    await play(await client.queuedJob(), ["Hel", "lo"]);
    const answer = await (await whole).json();
    expect(await (await ask({}, "whole")).json()).toEqual(answer);

    const stream = await ask({ stream: true }, "stream");
    await play(await client.queuedJob(), ["Hel", "lo"]);
    const frames = await Array.fromAsync(sse(stream));
    expect(frames.length).toBeGreaterThan(3);
    const again = await ask({ stream: true }, "stream");
    expect(again.headers.get("idempotent-replayed")).toBe("true");
    expect(await Array.fromAsync(sse(again))).toEqual(frames);
  });

  test("a request with several choices gets the same jobs", async () => {
    const ask = () =>
      client.post("/v1/completions", { ...submission, n: 2 }, { "idempotency-key": "n" });
    const first = ask();
    await vi.waitUntil(async () => (await jobCount()) === 2, 10_000);
    for (const id of await client.queuedJobs()) await play(id, [id]);
    const answer = await (await first).json();
    expect(await (await ask()).json()).toEqual(answer);
    expect(await jobCount()).toBe(0);
  });

  test("the key of a refused request can be used again", async () => {
    const limited = await newTenant({ limits: { concurrent_jobs: 1 } });
    const { id } = await limited.submit();
    expect((await submit("k", {}, limited)).status).toBe(429);
    await play(id, []);
    expect((await submit("k", {}, limited)).status).toBe(202);
  });

  test("a job that was deleted in between is not created again", async () => {
    const { id } = await (await submit("k")).json<{ id: string }>();
    await play(id, []);
    await redis.del(jobKey(id));
    expect(await errorOf(await submit("k"))).toMatchObject({ status: 404, code: "not_found" });
    expect(await jobCount()).toBe(0);
  });

  test.each(["", '"', '"a', 'a"b', "a b", "x".repeat(256), '"\\n"'])(
    "%j is refused",
    async (key) => {
      expect(await errorOf(await submit(key))).toMatchObject({
        status: 400,
        param: "Idempotency-Key",
      });
    },
  );

  test("a key in quotes and the same key without quotes are equal", async () => {
    expect(jobIdOf(await submit("abc"))).toBe(jobIdOf(await submit('"abc"')));
    expect(jobIdOf(await submit('"a\\"b\\\\"'))).not.toBe(jobIdOf(await submit('"a\\"b"')));
  });
});

describe("a retry of the unmodified openai client", () => {
  /** Replies that the client still loses: the edge handles the request, but the client gets a connection error. */
  let repliesToLose: number;
  let openai: OpenAI;
  beforeEach(() => {
    repliesToLose = 1;
    openai = new OpenAI({
      apiKey: client.key,
      baseURL: "http://edge.test/v1",
      maxRetries: 2,
      fetch: async (input, init) => {
        const losesReply = repliesToLose-- > 0;
        const disconnect = new AbortController();
        const signal = losesReply ? disconnect.signal : init?.signal;
        const reply = send(new URL(new Request(input).url).pathname, {
          ...init,
          ...(signal && { signal }),
        });
        if (!losesReply) return reply;
        reply.catch(() => {});
        await client.queuedJob();
        disconnect.abort();
        throw new TypeError("The connection was lost");
      },
    });
  });

  test("gets the answer of the job that the first request created", async () => {
    const [id, { data, response }] = await Promise.all([
      client.queuedJob(),
      openai.chat.completions.create(chat).withResponse(),
      vi
        .waitUntil(() => repliesToLose < 0, 10_000)
        .then(async () => play(await client.queuedJob(), ["Hi"])),
    ]);
    expect(jobIdOf(response)).toBe(id);
    expect(response.headers.get("idempotent-replayed")).toBe("true");
    expect(data.choices[0]?.message.content).toBe("Hi");
    expect(await jobCount()).toBe(0);
  });

  test("gets the complete stream", async () => {
    const stream = await openai.chat.completions.create({ ...chat, stream: true });
    expect(await jobCount()).toBe(1);
    await play(await client.queuedJob(), ["Hel", "lo"]);
    const chunks = await Array.fromAsync(stream);
    expect(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("")).toBe("Hello");
  });

  test("is distinguished from two separate requests with the same body", async () => {
    repliesToLose = 0;
    await openai.chat.completions.create({ ...chat, stream: true });
    await openai.chat.completions.create({ ...chat, stream: true });
    expect(await jobCount()).toBe(2);
  });
});

test("a retry matches only the same API key and a body that was sent before", async () => {
  const retry = { "x-stainless-retry-count": "1" };
  await client.post("/v1/jobs", submission, { "x-stainless-retry-count": "0" });
  const other = await newTenant({}, client.tenant);
  await other.post("/v1/jobs", submission, retry);
  await client.post("/v1/jobs", { ...submission, seed: 1 }, retry);
  expect([await jobCount(), await jobCount(other)]).toEqual([2, 1]);
  await client.post("/v1/jobs", submission, retry);
  await client.post("/v1/jobs", { ...submission, seed: 1 }, retry);
  expect(await jobCount()).toBe(2);
});
