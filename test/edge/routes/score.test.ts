/** `/v1/score`: the job that the worker gets, and the reply that is made of its result. */
import { beforeEach, expect, test } from "vitest";
import type { Job } from "../../../shared/api/jobs.ts";
import type { ScoreList } from "../../../shared/api/score.ts";
import type { TokenLogprob, TokenShift } from "../../../shared/api/token-details.ts";
import { card, claim, errorOf, newTenant, store, success, usage, type Client } from "../harness.ts";

let tenant: Client;
beforeEach(async () => {
  tenant = await newTenant();
});

const body = { model: card.id, prompt: [1, 2], completion: [7, 8, 9] };

const name = (id: number) => ({ id, token: `t${id}` });
const top = [{ ...name(5), logprob: -0.5 }];
const scoredTokens = (expert: number | null) => {
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
  const tokens = scoredTokens(expert);
  await store.appendTokens(id, attempt, 0, tokens);
  await store.finish(id, attempt, outcome.error ? "failed" : "succeeded", "abc", outcome);
  return { id, generation, tokens };
}

async function score(fields: object, expert: number | null = -2) {
  const [played, reply] = await Promise.all([
    playScore(expert),
    tenant.post("/v1/score", { ...body, ...fields }),
  ]);
  expect(reply.status).toBe(200);
  expect(reply.headers.get("x-trimtab-job-id")).toBe(played.id);
  return { ...played, reply: await reply.json<Record<string, unknown>>() };
}

test("the reply has every token, with sums and means over them", async () => {
  const { id, generation, tokens, reply } = await score({ top_logprobs: 1 });
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

test("log-probabilities of models that did not run are null", async () => {
  const { reply } = await score({ steering: { alpha: 0 } }, null);
  expect(reply["sum"]).toEqual({ base: -3.3, expert: null, antiexpert: null, steered: -3 });
  expect(reply["mean"]).toEqual({ base: -1.1, expert: null, antiexpert: null, steered: -1 });
});

test("if the job fails, the reply is its error", async () => {
  const error = { code: "context_length_exceeded", message: "completion has 99 tokens" } as const;
  const [, reply] = await Promise.all([
    playScore(0, { ...success, error }),
    tenant.post("/v1/score", { ...body, completion: "a text" }),
  ]);
  expect(await errorOf(reply)).toMatchObject({ status: 400, ...error });
});

test("several completions of several prompts are a list of scores, each a job that stores its prompt once", async () => {
  const candidates = { ids: [4, 5] };
  const inputs = [
    { prompt: [1, 2], completions: [[7, 8, 9], [7]] },
    { messages: [{ role: "user", content: "x" }], completions: ["a"] },
  ];
  const answer = tenant.post("/v1/score", { model: card.id, inputs, candidates });
  await expect.poll(() => tenant.queuedJobs(), { timeout: 10_000 }).toHaveLength(3);
  const ids = (await tenant.queuedJobs()).sort();
  const generations = [];
  for (const [i, id] of ids.entries()) {
    generations.push((await store.record(id))!.generation);
    const { attempt } = await claim(id);
    const tokens = scoredTokens(-2);
    const logprobs = [-1, -2 - i];
    const withCandidates = { ...tokens, candidates: tokens.ids.map(() => ({ logprobs })) };
    await store.appendTokens(id, attempt, 0, withCandidates);
    await store.finish(id, attempt, "succeeded", "abc", success);
  }
  expect(generations).toMatchObject([
    { input: { ids: [1, 2] }, completion: { ids: [7, 8, 9] }, candidates },
    { input: { ids: [1, 2] }, completion: { ids: [7] }, candidates },
    { input: { kind: "chat" }, completion: { text: "a" }, candidates },
  ]);
  // Of 262,144 entries a token needs 1 for its log-probability, 8 for its trace, and 1 for up to three candidates.
  expect(generations.map(({ maxTokens }) => maxTokens)).toEqual([15_728, 5_242, 5_242]);
  const reply = await (await answer).json<ScoreList>();
  expect(reply).toMatchObject({ object: "list", model: card.id });
  expect(reply.data.map(({ id }) => id)).toEqual(ids);
  expect(reply.data.map(({ tokens }) => tokens[0]?.candidates)).toEqual([
    { logprobs: [-1, -2] },
    { logprobs: [-1, -3] },
    { logprobs: [-1, -4] },
  ]);
  expect(reply.usage.total_tokens).toBe(3 * usage.total_tokens);
});

test("completions of one prompt are a list of scores", async () => {
  const answer = tenant.post("/v1/score", { ...body, completion: undefined, completions: ["a"] });
  await playScore(-2);
  expect(await (await answer).json()).toMatchObject({ object: "list", data: [{ text: "abc" }] });
});

test("a score can be submitted as a job, without waiting", async () => {
  const reply = await tenant.post("/v1/jobs", { ...body, metadata: { a: "b" } });
  expect(reply.status).toBe(202);
  const { id, metadata } = await reply.json<Job>();
  expect(metadata).toEqual({ a: "b" });
  const { tokens } = await playScore(-2);
  const { output } = await tenant.job(id);
  expect(output).toMatchObject({ text: "abc", trace: tokens.trace, logprobs: tokens.logprobs });
});

test("the rate limit counts the tokens of the text, not the largest number that a score may have", async () => {
  const client = await newTenant({ limits: { tokens_per_minute: 9 } });
  expect((await client.post("/v1/jobs", body)).headers.get("x-ratelimit-remaining-tokens")).toBe(
    "4",
  );
  const error = await errorOf(
    await client.post("/v1/score", { ...body, completion: [1, 2, 3, 4, 5, 6, 7, 8] }),
  );
  expect(error).toMatchObject({ code: "invalid_request", param: "completion" });
});

test("more ids of candidates than the limit are refused", async () => {
  const candidates = { ids: Array.from({ length: 1_025 }, (_, id) => id) };
  expect(await errorOf(await tenant.post("/v1/score", { ...body, candidates }))).toMatchObject({
    status: 400,
    param: "candidates.ids",
    message: expect.stringContaining("candidates.ids must have at most 1024 items, received 1025"),
  });
});

test.each<[object, string, string | RegExp, string?]>([
  [{ completion: undefined }, "completion", "completion is required"],
  [{ completion: [] }, "completion", "completion must not be empty"],
  [{ completion: 5 }, "completion", /^completion must be a string or a non-empty array of token/],
  [{ completion: [1, 1_000] }, "completion.1", /are below 1000, received 1000$/],
  [{ prompt: undefined }, "messages", /^Exactly one of messages and prompt must be set$/],
  [{ temperature: 1 }, "temperature", /is not a supported parameter$/, "unsupported_parameter"],
  [{ candidates: { top: 1_025 } }, "candidates.top", /at most 1024, received 1025/],
  [{ candidates: { ids: [] } }, "candidates.ids", /candidates\.ids must not be empty/],
  [{ candidates: { ids: [1, 1_000] } }, "candidates.ids.1", /are below 1000, received 1000$/],
  [
    { completion: undefined, completions: Array.from({ length: 9 }, () => "x".repeat(20_000)) },
    "completions",
    /^completions: at most 29127 tokens of all completions can be scored .* about 45000$/,
  ],
  [{ top_logprobs: 21 }, "top_logprobs", "top_logprobs must be at most 20, received 21"],
  [
    { completion: Array.from({ length: 31 }, () => 1) },
    "completion",
    "This model's maximum context length is 32 tokens. However, your completion has 31 tokens, and the prompt needs room as well.",
    "context_length_exceeded",
  ],
])("%j is refused", async (fields, param, message, code = "invalid_request") => {
  const error = await errorOf(await tenant.post("/v1/score", { ...body, ...fields }));
  expect(error).toMatchObject({ code, param, message: expect.stringMatching(message) as string });
  expect(await tenant.queuedJobs()).toEqual([]);
});
