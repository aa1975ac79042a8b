/** A job from submission to end over HTTP, errors of requests that cannot be served, and the separation of tenants. */
import { describe, expect, test } from "vitest";
import type { Model } from "../../shared/api/models.ts";
import type { ErrorBody } from "../../shared/api/errors.ts";
import { JobClient } from "../../infra/cli/job-client.ts";
import {
  allEvents,
  countingFrom,
  runToEnd,
  LONG_JOB,
  seqOf,
  SHORT_JOB,
  textOf,
  tokenIds,
  typesOf,
  useStack,
} from "./stack.ts";

const stack = useStack();

describe("a job", () => {
  test("is queued, runs and succeeds; its events, text and usage match", async () => {
    const submitted = await stack.client.submit({ ...SHORT_JOB, metadata: { order: "7" } });
    expect(submitted).toMatchObject({ object: "job", model: "atlas-qa", metadata: { order: "7" } });

    const events = await allEvents(stack.client, submitted.id);
    const types = typesOf(events);
    expect(types.slice(0, 3)).toEqual(["queued", "started", "tokens"]);
    expect(types.at(-1)).toBe("succeeded");
    expect(new Set(types.slice(2, -1))).toEqual(new Set(["tokens"]));
    expect(seqOf(events)).toEqual(countingFrom(1, events.length));

    const job = await stack.client.read(submitted.id);
    expect(job).toMatchObject({
      state: "succeeded",
      attempts: 1,
      cancel_requested: false,
      error: null,
      webhook: null,
      output: { text: textOf(events) },
    });
    expect(job.output.text).not.toBe("");
    const { loading_at, prefill_at, decode_at, first_token_at } = job.timings;
    const times = [job.created_at, loading_at!, prefill_at!, decode_at!, job.ended_at!];
    expect(times).toEqual(times.toSorted((a, b) => a - b));
    expect(first_token_at).toBe(decode_at);
    expect(job.usage?.completion_tokens).toBe(tokenIds(events).length);
    expect(job.usage?.total_tokens).toBe(
      (job.usage?.prompt_tokens ?? 0) + (job.usage?.completion_tokens ?? 0),
    );
    expect(job.started_at).toBeGreaterThanOrEqual(job.created_at);
    expect(job.ended_at).toBeGreaterThanOrEqual(job.started_at ?? Infinity);
    expect(job.deleted_at).toBeGreaterThan(job.ended_at ?? Infinity);
  });

  test("ends at max_tokens with finish_reason length", async () => {
    const job = await runToEnd(stack.client, { ...LONG_JOB, max_tokens: 5 });
    expect(job.output.finish_reason).toBe("length");
    expect(job.usage?.completion_tokens).toBe(5);
  });

  test("ends before a stop string, which is not part of the text, with finish_reason stop", async () => {
    const whole = await runToEnd(stack.client, { ...LONG_JOB, max_tokens: 30 });
    const stop = whole.output.text.trim().split(" ")[3] ?? "";
    const job = await runToEnd(stack.client, { ...LONG_JOB, max_tokens: 30, stop });
    expect(job.output.finish_reason).toBe("stop");
    expect(job.output.text).toBe(whole.output.text.slice(0, whole.output.text.indexOf(stop)));
  });

  test("has the same text for the same seed, and another text for another seed", async () => {
    const draw = async (seed: number) => {
      const input = { ...LONG_JOB, max_tokens: 20, temperature: 1.5, seed };
      return (await runToEnd(stack.client, input)).output.text;
    };
    const [first, again, other] = await Promise.all([draw(1), draw(1), draw(2)]);
    expect(again).toBe(first);
    expect(other).not.toBe(first);
  });

  test("is steered by alpha: 0 is the base model alone, and the default is the ensemble's alpha", async () => {
    const steered = async (alpha?: number) =>
      runToEnd(stack.client, {
        ...SHORT_JOB,
        max_tokens: 20,
        ...(alpha !== undefined && { steering: { alpha } }),
      });
    const [base, byDefault, strong] = await Promise.all([steered(0), steered(), steered(2)]);
    expect(base.steering.alpha).toBe(0);
    const card = (await (await stack.client.request("/v1/models/atlas-qa")).json()) as Model;
    expect(byDefault.steering.alpha).toBe(card.alpha.default);
    expect(strong.output.text).not.toBe(base.output.text);
  });

  test("expires when its deadline passes, and keeps the text so far", async () => {
    const jobs = await Promise.all(
      Array.from({ length: 6 }, () =>
        runToEnd(stack.client, { ...LONG_JOB, max_tokens: 500, deadline: 1 }),
      ),
    );
    for (const job of jobs) {
      expect(job).toMatchObject({ state: "expired", error: { code: "deadline_exceeded" } });
      expect(job.usage?.completion_tokens).toBeLessThan(500);
    }
  });
});

describe("a request that cannot be served", () => {
  const rejection = async (body: unknown): Promise<[number, ErrorBody["error"]]> => {
    const init = { method: "POST", body: JSON.stringify(body) };
    const reply = await stack.client.request("/v1/jobs", init);
    return [reply.status, ((await reply.json()) as ErrorBody).error];
  };

  test.for([
    [{ ...SHORT_JOB, temperature: 3 }, 400, "invalid_request", "temperature"],
    [{ ...SHORT_JOB, max_tokens: 0 }, 400, "invalid_request", "max_tokens"],
    [{ ...SHORT_JOB, steering: { alpha: 5 } }, 400, "invalid_request", "steering.alpha"],
    [{ ...SHORT_JOB, prompt: "and a prompt" }, 400, "invalid_request", "messages"],
    [
      { ...SHORT_JOB, webhook: { url: "ftp://example.com" } },
      400,
      "invalid_request",
      "webhook.url",
    ],
    [{ ...SHORT_JOB, model: "gpt-9" }, 404, "model_not_found", "model"],
  ] as const)("%j is rejected with %d %s, naming %s", async ([body, status, code, param]) => {
    const [actualStatus, error] = await rejection(body);
    expect(actualStatus).toBe(status);
    expect(error).toMatchObject({ code, param });
    expect(error.message).not.toBe("");
  });

  test("whose error only the worker can notice is accepted, and its job fails: a prompt longer than the context", async () => {
    const prompt = "the capital of france ".repeat(400);
    const job = await runToEnd(stack.client, { ...SHORT_JOB, messages: undefined, prompt });
    expect(job).toMatchObject({ state: "failed", error: { code: "context_length_exceeded" } });
  });
});

describe("a tenant", () => {
  test("cannot read, follow or cancel another tenant's job: the answer is the same as for a job that does not exist", async () => {
    const { id } = await stack.client.submit(SHORT_JOB);
    const other = new JobClient(stack.edge.url, (await stack.keys.create("other")).key);
    const ask = async (path: string, method = "GET") => {
      const reply = await other.request(path, { method });
      const { error } = (await reply.json()) as ErrorBody;
      return [reply.status, error.code, error.message];
    };
    const missing = await ask("/v1/jobs/job_000000000000000000000000");
    expect(missing.slice(0, 2)).toEqual([404, "not_found"]);
    expect(await ask(`/v1/jobs/${id}`)).toEqual(missing);
    expect(await ask(`/v1/jobs/${id}/events`)).toEqual(missing);
    expect(await ask(`/v1/jobs/${id}/cancel`, "POST")).toEqual(missing);
    expect((await stack.client.read(id)).cancel_requested).toBe(false);
  });

  test("shares its jobs among its keys", async () => {
    const { key } = await stack.keys.create("second", stack.key.tenant);
    const { id } = await stack.client.submit(SHORT_JOB);
    expect((await new JobClient(stack.edge.url, key).read(id)).id).toBe(id);
  });

  test("gets 401 with a key that was revoked or never existed", async () => {
    const { id, key, tenant } = await stack.keys.create("short-lived", stack.key.tenant);
    const client = new JobClient(stack.edge.url, key);
    expect((await client.request("/v1/models")).status).toBe(200);
    expect(await stack.keys.revoke(id)).toBe(true);
    expect((await client.request("/v1/models")).status).toBe(401);
    expect((await new JobClient(stack.edge.url, `tt_${tenant}`).request("/v1/models")).status).toBe(
      401,
    );
  });
});
