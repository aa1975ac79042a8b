/** Scoring at the edge: what becomes the worker's, and what of the worker's becomes the reply. */
import { beforeEach, expect, test } from "vitest";
import type { Job } from "../../shared/contract.ts";
import type { TokenLogprob, TokenShift } from "../../shared/reports.ts";
import { card, claim, errorOf, newTenant, store, success, usage, type Client } from "./harness.ts";

let tenant: Client;
beforeEach(async () => {
  tenant = await newTenant();
});

const body = { model: card.id, prompt: [1, 2], completion: [7, 8, 9] };

const name = (id: number) => ({ id, token: `t${id}` });
const top = [{ ...name(5), logprob: -0.5 }];
const told = (expert: number | null) => {
  const logprobs: TokenLogprob[] = [7, 8, 9].map((id) => ({ ...name(id), logprob: -1, top }));
  const trace = logprobs.map(({ id }): TokenShift => ({
    id,
    alpha: 1,
    base: -1.1,
    expert,
    antiexpert: expert,
    steered: -1,
    gain: 0,
    kl: 0.25,
    same: false,
    base_token: name(5),
    promoted: [],
    demoted: [],
  }));
  return { ids: [7, 8, 9], text: "abc", logprobs, trace };
};

async function playScore(expert: number | null, outcome = success) {
  const id = await tenant.queuedJob();
  const { generation } = (await store.record(id))!;
  const { attempt } = await claim(id);
  const tokens = told(expert);
  await store.appendTokens(id, attempt, 0, tokens);
  await store.finish(id, attempt, outcome.error ? "failed" : "succeeded", "abc", outcome);
  return { id, generation, tokens };
}

async function scored(fields: object, expert: number | null = -2) {
  const [played, reply] = await Promise.all([
    playScore(expert),
    tenant.post("/v1/score", { ...body, ...fields }),
  ]);
  expect(reply.status).toBe(200);
  expect(reply.headers.get("x-trimtab-job-id")).toBe(played.id);
  return { ...played, reply: await reply.json<Record<string, unknown>>() };
}

test("every token is told of, and sums and means over them", async () => {
  const { id, generation, tokens, reply } = await scored({ top_logprobs: 1 });
  expect(generation).toMatchObject({
    completion: { kind: "tokens", ids: [7, 8, 9] },
    temperature: 0,
    logprobs: 1,
    trace: true,
    maxTokens: 26_214,
  });
  expect(reply).toEqual({
    id,
    object: "score",
    created: expect.any(Number) as number,
    model: card.id,
    text: "abc",
    tokens: tokens.trace.map((shift) => ({ ...name(shift.id), ...shift, top })),
    sum: { base: -3.3, expert: -6, antiexpert: -6, steered: -3 },
    mean: { base: -1.1, expert: -2, antiexpert: -2, steered: -1 },
    usage,
  });
});

test("what is not run is null", async () => {
  const { reply } = await scored({ steering: { alpha: 0 } }, null);
  expect(reply["sum"]).toEqual({ base: -3.3, expert: null, antiexpert: null, steered: -3 });
  expect(reply["mean"]).toEqual({ base: -1.1, expert: null, antiexpert: null, steered: -1 });
});

test("a job that fails is the error of the reply", async () => {
  const error = { code: "context_length_exceeded", message: "completion has 99 tokens" } as const;
  const [, reply] = await Promise.all([
    playScore(0, { ...success, error }),
    tenant.post("/v1/score", { ...body, completion: "a text" }),
  ]);
  expect(await errorOf(reply)).toMatchObject({ status: 400, ...error });
});

test("who does not want to wait submits it as a job", async () => {
  const reply = await tenant.post("/v1/jobs", { ...body, metadata: { a: "b" } });
  expect(reply.status).toBe(202);
  const { id, metadata } = await reply.json<Job>();
  expect(metadata).toEqual({ a: "b" });
  const { tokens } = await playScore(-2);
  const { output } = await tenant.job(id);
  expect(output).toMatchObject({ text: "abc", trace: tokens.trace, logprobs: tokens.logprobs });
});

test("its tokens are counted against the key's limit, and not all that a score may have", async () => {
  const client = await newTenant({ limits: { tokens_per_minute: 9 } });
  expect((await client.post("/v1/jobs", body)).headers.get("x-ratelimit-remaining-tokens")).toBe(
    "4",
  );
  const error = await errorOf(
    await client.post("/v1/score", { ...body, completion: [1, 2, 3, 4, 5, 6, 7, 8] }),
  );
  expect(error).toMatchObject({ code: "invalid_request", param: "completion" });
});

test.each<[object, string, string | RegExp, string?]>([
  [{ completion: undefined }, "completion", "completion is required"],
  [{ completion: [] }, "completion", "completion must not be empty"],
  [{ completion: 5 }, "completion", /^completion must be a string or a non-empty array of token/],
  [{ completion: [1, 1_000] }, "completion.1", /are below 1000, received 1000$/],
  [{ prompt: undefined }, "messages", /exactly one of messages and prompt$/],
  [{ temperature: 1 }, "temperature", /is not a supported parameter$/, "unsupported_parameter"],
  [{ top_logprobs: 21 }, "top_logprobs", "top_logprobs must be at most 20, received 21"],
  [
    { completion: Array.from({ length: 31 }, () => 1) },
    "completion",
    "completion has 31 tokens, and the context of 32 tokens must also hold the prompt",
    "context_length_exceeded",
  ],
])("%j is refused", async (fields, param, message, code = "invalid_request") => {
  const error = await errorOf(await tenant.post("/v1/score", { ...body, ...fields }));
  expect(error).toMatchObject({ code, param, message: expect.stringMatching(message) as string });
  expect(await tenant.queuedJobs()).toEqual([]);
});
