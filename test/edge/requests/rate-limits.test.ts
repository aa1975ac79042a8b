/** The limits of an API key: reported with every submission, kept exactly, and released whenever a job ends. */
import { describe, expect, test } from "vitest";
import { NEVER_RAN } from "../../../shared/jobs/store.ts";
import { STORED_BYTES_PREFIX } from "../../../shared/redis/keys.ts";
import {
  card,
  claim,
  errorOf,
  keys,
  newTenant,
  play,
  redis,
  store,
  success,
  type Client,
} from "../harness.ts";

const submission = { model: card.id, prompt: "Hello Hi", max_tokens: 8 };
/** Tokens: two for the prompt (8 characters) and eight to generate. */
const RESERVED = 10;

/** More bytes than any tenant may have. */
const ALL_BYTES = 2 ** 40;

const submit = (client: Client, fields = {}) =>
  client.post("/v1/jobs", { ...submission, ...fields });
const headersOf = (reply: Response, names: string[]) =>
  names.map((name) => reply.headers.get(name));

describe("requests a minute", () => {
  test("are reported in both kinds of headers; a request beyond the limit is refused with the time to wait", async () => {
    const client = await newTenant({ limits: { requests_per_minute: 2 } });
    const first = await submit(client);
    expect(first.status).toBe(202);
    const names = ["limit", "remaining", "reset"].map((part) => `x-ratelimit-${part}-requests`);
    expect(headersOf(first, [...names, "ratelimit-policy", "ratelimit"])).toEqual([
      "2",
      "1",
      "30s",
      '"requests";q=2;w=60',
      '"requests";r=1;t=30',
    ]);
    await submit(client);
    const refused = await submit(client);
    expect(refused.headers.get("x-ratelimit-remaining-requests")).toBe("0");
    const waitMs = Number(refused.headers.get("retry-after-ms"));
    expect(waitMs).toBeGreaterThan(20_000);
    expect(waitMs).toBeLessThanOrEqual(30_000);
    expect(refused.headers.get("retry-after")).toBe(String(Math.ceil(waitMs / 1000)));
    expect(refused.headers.get("x-should-retry")).toBe("true");
    expect(await errorOf(refused)).toMatchObject({
      status: 429,
      type: "rate_limit_error",
      code: "rate_limit_exceeded",
      message: "This API key allows at most 2 requests a minute",
    });
    // Reading is not counted.
    expect((await client.get("/v1/models")).status).toBe(200);
  });

  test("are used by refused requests too, whose body is not read when none is left", async () => {
    const client = await newTenant({ limits: { requests_per_minute: 3 } });
    const costly = {
      response_format: { type: "regex", pattern: "([a-z ]{0,63}|[a-q]{0,63}){0,63}" },
    };
    const replies = [
      await submit(client, costly),
      await client.post("/v1/chat/completions", { model: "unknown", messages: [] }),
      await client.post("/v1/jobs/quote", { ...submission, ...costly }),
      await submit(client, costly),
      await submit(client),
    ];
    expect(replies.map(({ status }) => status)).toEqual([400, 400, 400, 429, 429]);
    expect(Number(replies[3]!.headers.get("retry-after-ms"))).toBeGreaterThan(0);
    const unlimited = await newTenant();
    for (let i = 0; i < 5; i++) expect((await submit(unlimited, costly)).status).toBe(400);
    expect((await submit(unlimited)).status).toBe(202);
  });

  test("refill continuously", async () => {
    const client = await newTenant({ limits: { requests_per_minute: 60 } });
    const burst = await Promise.all(Array.from({ length: 70 }, () => submitWithoutHttp(client)));
    expect(burst).toContain("limited");
    await expect.poll(async () => (await submit(client)).status, { timeout: 5_000 }).toBe(202);
  });

  test("belong to the key, also while its old and its new secret both work", async () => {
    const client = await newTenant({ limits: { requests_per_minute: 1 } });
    const rotated = await keys.rotate(client.keyId, 60);
    expect((await submit(client)).status).toBe(202);
    Object.assign(client, { key: rotated });
    expect((await submit(client)).status).toBe(429);
  });

  test("hold for simultaneous requests: exactly the allowed number is accepted", async () => {
    const client = await newTenant({ limits: { requests_per_minute: 5 } });
    const replies = await Promise.all(Array.from({ length: 20 }, () => submit(client)));
    const accepted = replies.filter((reply) => reply.status === 202);
    expect(accepted).toHaveLength(5);
    expect(await client.queuedJobs()).toHaveLength(5);
  });
});

describe("tokens a minute", () => {
  const limits = { tokens_per_minute: 25 };
  const remaining = (reply: Response) => Number(reply.headers.get("x-ratelimit-remaining-tokens"));

  test("are reserved at submission, and unused ones are given back when the job ends", async () => {
    const client = await newTenant({ limits });
    const first = await submit(client);
    expect(remaining(first)).toBe(25 - RESERVED);
    expect(first.headers.get("ratelimit-policy")).toBe('"tokens";q=25;qu="tokens";w=60');
    const second = await submit(client);
    expect((await submit(client)).status).toBe(429);
    const { id } = await first.json<{ id: string }>();
    // The job used 5 of its 10 reserved tokens.
    await play(id, ["a", "b"]);
    const third = await submit(client);
    expect(third.status).toBe(202);
    // A job that is cancelled in the queue has used no tokens.
    const queued = await second.json<{ id: string }>();
    await client.post(`/v1/jobs/${queued.id}/cancel`);
    expect((await submit(client)).status).toBe(202);
  });

  test("that a job used beyond the estimate are counted against later jobs", async () => {
    const client = await newTenant({ limits });
    const { id } = await (await submit(client)).json<{ id: string }>();
    await play(id, [], { ...success, usage: { ...success.usage, total_tokens: 24 } });
    const refused = await submit(client);
    expect(refused.status).toBe(429);
    expect(remaining(refused)).toBeLessThanOrEqual(1);
  });

  test("are not given back if the worker refuses the job", async () => {
    const client = await newTenant({ limits });
    for (const code of ["context_length_exceeded", "invalid_request"] as const) {
      const { id } = await client.submit(submission);
      const { attempt } = await claim(id);
      const outcome = { ...NEVER_RAN, error: { code, message: "The prompt is too long" } };
      await store.finish(id, attempt, "failed", "", outcome);
    }
    expect((await submit(client)).status).toBe(429);
  });

  test("that can never be enough for a job refuse it without a retry", async () => {
    const client = await newTenant({ limits: { tokens_per_minute: 9 } });
    const reply = await submit(client);
    expect(reply.headers.get("x-should-retry")).toBe("false");
    expect(await errorOf(reply)).toMatchObject({
      status: 400,
      param: "max_tokens",
      message: "max_tokens and the prompt need about 10 tokens, and this API key allows 9 a minute",
    });
  });

  test("are not given back by deleting a job while it runs", async () => {
    const client = await newTenant({ limits });
    for (const { id } of [await client.submit(submission), await client.submit(submission)]) {
      await claim(id);
      await client.send(`/v1/jobs/${id}`, "DELETE");
    }
    expect((await submit(client)).status).toBe(429);
  });

  test("are reserved up to the context length at most", async () => {
    const client = await newTenant({ limits: { tokens_per_minute: card.contextTokens } });
    expect((await submit(client, { max_tokens: 30_000 })).status).toBe(202);
  });

  test("that need a long wait are not retried by the clients", async () => {
    const client = await newTenant({ limits: { tokens_per_minute: 12 } });
    const { id } = await (await submit(client)).json<{ id: string }>();
    await play(id, [], { ...success, usage: { ...success.usage, total_tokens: 30 } });
    const reply = await submit(client);
    expect(Number(reply.headers.get("retry-after"))).toBeGreaterThan(60);
    expect(headersOf(reply, ["x-should-retry", "retry-after-ms"])).toEqual(["false", null]);
  });
});

describe("several choices", () => {
  const ask = (client: Client, n: number) =>
    client.post("/v1/completions", { ...submission, n, stream: true });

  test("count as one request, several jobs, and the tokens of all", async () => {
    const limits = { requests_per_minute: 9, tokens_per_minute: 90, concurrent_jobs: 3 };
    const client = await newTenant({ limits });
    const reply = await ask(client, 2);
    expect(reply.headers.get("ratelimit")).toMatch(/^"requests";r=8;.*"tokens";r=70;.*"jobs";r=1$/);
    // All jobs of a request are accepted, or none.
    expect((await ask(client, 2)).status).toBe(429);
    expect(await client.queuedJobs()).toHaveLength(2);
  });

  test("beyond the key's concurrent jobs are refused without a retry", async () => {
    const client = await newTenant({ limits: { concurrent_jobs: 3 } });
    expect(await errorOf(await ask(client, 4))).toMatchObject({
      status: 400,
      param: "n",
      message:
        "n times the number of prompts must be at most 3, the concurrent jobs that this API key allows",
    });
  });
});

describe("concurrent jobs", () => {
  const limits = { concurrent_jobs: 1 };

  test("are reported, and a job beyond the limit is refused", async () => {
    const client = await newTenant({ limits });
    const first = await submit(client);
    expect(headersOf(first, ["ratelimit-policy", "ratelimit"])).toEqual([
      '"jobs";q=1;qu="concurrent-requests"',
      '"jobs";r=0',
    ]);
    const reply = await submit(client);
    expect(reply.headers.get("retry-after")).toBe("2");
    expect(await errorOf(reply)).toMatchObject({
      status: 429,
      message: "This API key allows at most 1 jobs that have not ended",
    });
  });

  test.each<[string, (client: Client, id: string) => Promise<unknown>]>([
    ["succeeded", (_, id) => play(id, ["a"])],
    ["was cancelled in the queue", (client, id) => client.post(`/v1/jobs/${id}/cancel`)],
    ["was deleted", (client, id) => client.send(`/v1/jobs/${id}`, "DELETE")],
    ["expired in the queue", (_, id) => store.finish(id, 0, "expired", "", NEVER_RAN)],
    [
      "was cancelled by its worker",
      async (client, id) => {
        const { attempt } = await claim(id);
        await client.post(`/v1/jobs/${id}/cancel`);
        expect((await submit(client)).status).toBe(429);
        await store.finish(id, attempt, "cancelled", "", NEVER_RAN);
      },
    ],
    [
      "was taken over and failed",
      async (client, id) => {
        const first = await claim(id);
        const second = await claim(id);
        // The worker that lost the job cannot give tokens back.
        await store.finish(id, first.attempt, "failed", "", NEVER_RAN);
        expect((await submit(client)).status).toBe(429);
        await store.finish(id, second.attempt, "failed", "", NEVER_RAN);
      },
    ],
  ])("a job that %s makes room for exactly one", async (_, end) => {
    const client = await newTenant({ limits });
    const { id } = await client.submit();
    await end(client, id);
    await end(client, id).catch(() => {});
    expect((await submit(client)).status).toBe(202);
    expect((await submit(client)).status).toBe(429);
  });
});

describe("ensembles", () => {
  test("that a key may not use are refused by name, and not listed", async () => {
    const client = await newTenant({ limits: { models: ["other"] } });
    expect(await errorOf(await submit(client))).toMatchObject({
      status: 403,
      param: "model",
      message: "This API key may use only other",
    });
    expect((await client.get(`/v1/models/${card.id}`)).status).toBe(403);
    expect(await (await client.get("/v1/models")).json()).toMatchObject({ data: [] });
  });
});

describe("alpha", () => {
  const range = { alpha: { min: -1, max: 3 } };

  test("may be negative, and above the ensemble's maximum, where the key's policy says so", async () => {
    const client = await newTenant({ limits: range });
    for (const alpha of [-1, 3]) {
      expect((await client.submit({ steering: { alpha } })).steering).toEqual({ alpha });
    }
    const schedule = [
      [0, -1],
      [9, 0.5],
    ];
    // The alpha of a schedule is its strongest one. With 0, the base alone would run.
    expect((await client.submit({ steering: { schedule } })).steering.alpha).toBe(-1);
  });

  test.each([
    [-1.1, range, "steering.alpha must be from -1 to 3 with this API key, received -1.1"],
    [3.1, range, "steering.alpha must be from -1 to 3 with this API key, received 3.1"],
    [1, { alpha: { min: 0, max: 0.9 } }, /from 0 to 0.9 with this API key, received 1$/],
    [-0.1, {}, "steering.alpha must be from 0 to 2 with this model, received -0.1"],
    [2.1, {}, "steering.alpha must be from 0 to 2 with this model, received 2.1"],
  ])("%d is refused with the limits %j", async (alpha, limits, message) => {
    const client = await newTenant({ limits });
    const error = await errorOf(await submit(client, { steering: { alpha } }));
    expect(error).toMatchObject({ status: 400, param: "steering.alpha" });
    expect(error.message).toMatch(message);
  });
});

/** Submits a job without HTTP, for tests that need many. */
async function submitWithoutHttp(client: Client): Promise<string> {
  const limits = (await keys.get(client.keyId))!.limits;
  const job = {
    id: `job_${crypto.randomUUID()}`,
    tenant: client.tenant,
    generation: { model: card.id } as never,
    requestOptions: {},
    webhookUrl: null,
    metadata: {},
    deadlineInMs: 60_000,
  };
  return (
    await store.submitAll([job], {
      pools: [{ id: client.keyId, limits }],
      tokens: [1],
      idempotency: null,
    })
  ).status;
}

test("a tenant whose jobs have as many bytes as allowed gets the limit, what counts and what helps", async () => {
  const client = await newTenant();
  const untilMs = Date.now() + 600_000;
  await redis.hset(STORED_BYTES_PREFIX + client.tenant, String(untilMs), ALL_BYTES);
  const refused = await submit(client);
  expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(500);
  const error = await errorOf(refused);
  expect(error).toMatchObject({ status: 429, code: "rate_limit_exceeded" });
  expect(error.message).toMatch(/at most 1073741824 bytes.*ended jobs.*Delete ended jobs, or wait/);
});
