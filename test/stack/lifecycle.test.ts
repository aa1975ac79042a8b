/** A job from its submission to its end, over HTTP, and what a caller is told who asks for what cannot be. */
import { describe, expect, test } from "vitest";
import type { Model } from "../../shared/contract.ts";
import type { ErrorBody } from "../../shared/errors.ts";
import { JobClient } from "../../infra/job-client.ts";
import {
  allEvents,
  countingFrom,
  finished,
  LONG,
  seqOf,
  SHORT,
  textOf,
  tokenIds,
  typesOf,
  useStack,
} from "./stack.ts";

const stack = useStack();

describe("a job", () => {
  test("is queued, runs and succeeds; its events, text and usage agree", async () => {
    const submitted = await stack.client.submit({ ...SHORT, metadata: { order: "7" } });
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

  test("ends with length at its token limit", async () => {
    const job = await finished(stack.client, { ...LONG, max_tokens: 5 });
    expect(job.output.finish_reason).toBe("length");
    expect(job.usage?.completion_tokens).toBe(5);
  });

  test("ends with stop before a stop string, which is not part of the text", async () => {
    const whole = await finished(stack.client, { ...LONG, max_tokens: 30 });
    const stop = whole.output.text.trim().split(" ")[3] ?? "";
    const job = await finished(stack.client, { ...LONG, max_tokens: 30, stop });
    expect(job.output.finish_reason).toBe("stop");
    expect(job.output.text).toBe(whole.output.text.slice(0, whole.output.text.indexOf(stop)));
  });

  test("draws the same text under the same seed, and another under another", async () => {
    const draw = async (seed: number) => {
      const input = { ...LONG, max_tokens: 20, temperature: 1.5, seed };
      return (await finished(stack.client, input)).output.text;
    };
    const [first, again, other] = await Promise.all([draw(1), draw(1), draw(2)]);
    expect(again).toBe(first);
    expect(other).not.toBe(first);
  });

  test("is steered by alpha: 0 is the base alone, and a request without alpha has the ensemble's", async () => {
    const steered = async (alpha?: number) =>
      finished(stack.client, {
        ...SHORT,
        max_tokens: 20,
        ...(alpha !== undefined && { steering: { alpha } }),
      });
    const [base, byDefault, strong] = await Promise.all([steered(0), steered(), steered(2)]);
    expect(base.steering.alpha).toBe(0);
    const card = (await (await stack.client.request("/v1/models/atlas-qa")).json()) as Model;
    expect(byDefault.steering.alpha).toBe(card.alpha.default);
    expect(strong.output.text).not.toBe(base.output.text);
  });

  test("whose deadline passes is expired, with the text so far", async () => {
    const jobs = await Promise.all(
      Array.from({ length: 6 }, () =>
        finished(stack.client, { ...LONG, max_tokens: 500, deadline: 1 }),
      ),
    );
    for (const job of jobs) {
      expect(job).toMatchObject({ state: "expired", error: { code: "deadline_exceeded" } });
      expect(job.usage?.completion_tokens).toBeLessThan(500);
    }
  });
});

describe("a request that cannot be served", () => {
  const refused = async (body: unknown): Promise<[number, ErrorBody["error"]]> => {
    const init = { method: "POST", body: JSON.stringify(body) };
    const reply = await stack.client.request("/v1/jobs", init);
    return [reply.status, ((await reply.json()) as ErrorBody).error];
  };

  test.for([
    [{ ...SHORT, temperature: 3 }, 400, "invalid_request", "temperature"],
    [{ ...SHORT, max_tokens: 0 }, 400, "invalid_request", "max_tokens"],
    [{ ...SHORT, steering: { alpha: 5 } }, 400, "invalid_request", "steering.alpha"],
    [{ ...SHORT, prompt: "and a prompt" }, 400, "invalid_request", "messages"],
    [{ ...SHORT, webhook: { url: "ftp://example.com" } }, 400, "invalid_request", "webhook.url"],
    [{ ...SHORT, model: "gpt-9" }, 404, "model_not_found", "model"],
  ] as const)("%j is refused with %d %s, naming %s", async ([body, status, code, param]) => {
    const [answered, error] = await refused(body);
    expect(answered).toBe(status);
    expect(error).toMatchObject({ code, param });
    expect(error.message).not.toBe("");
  });

  test("says so on the job if only the worker can see it: a prompt longer than the context", async () => {
    const prompt = "the capital of france ".repeat(400);
    const job = await finished(stack.client, { ...SHORT, messages: undefined, prompt });
    expect(job).toMatchObject({ state: "failed", error: { code: "context_length_exceeded" } });
  });
});

describe("a tenant", () => {
  test("cannot see, follow or cancel the job of another, which looks like one that does not exist", async () => {
    const { id } = await stack.client.submit(SHORT);
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
    const { id } = await stack.client.submit(SHORT);
    expect((await new JobClient(stack.edge.url, key).read(id)).id).toBe(id);
  });

  test("is locked out with a key that was revoked, or never made", async () => {
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
