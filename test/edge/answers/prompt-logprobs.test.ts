/** Replies with the prompt: `echo`, and log-probabilities of its tokens. */
import { beforeEach, describe, expect, test } from "vitest";
import { LIMITS } from "../../../shared/api/limits.ts";
import type { PromptTokenLogprob } from "../../../shared/api/token-details.ts";
import { sharedKey } from "../../../shared/redis/keys.ts";
import { card, claim, errorOf, newTenant, redis, store, success, usage } from "../harness.ts";
import type { Client } from "../harness.ts";

let tenant: Client;
beforeEach(async () => {
  tenant = await newTenant();
});

const other = { id: 9, token: "!", logprob: -0.5 };
const promptToken = (id: number, token: string, logprob: number | null): PromptTokenLogprob => ({
  id,
  token,
  logprob,
  rank: logprob === null ? null : 2,
  top: logprob === null ? [] : [other],
});
const PROMPT = [promptToken(1, "<bos>", null), promptToken(2, "hé", -1), promptToken(3, "llo", -2)];
const OUTPUT = [{ id: 4, token: " you", logprob: -3, top: [other] }];

/** Plays the worker: the prompt's details in two parts, then the output. */
async function playScored(id: string, text = " you", prompt = PROMPT): Promise<void> {
  const { attempt } = await claim(id);
  const part = { ids: [], text: "" };
  await store.appendTokens(id, attempt, 0, { ...part, prompt_logprobs: prompt.slice(0, 2) });
  await store.appendTokens(id, attempt, 2, { ...part, prompt_logprobs: prompt.slice(2) });
  if (text) await store.appendTokens(id, attempt, 3, { ids: [4], text, logprobs: OUTPUT });
  await store.finish(id, attempt, "succeeded", text, success);
}

async function complete(fields: object, text?: string): Promise<Record<string, never>> {
  const path = "messages" in fields ? "/v1/chat/completions" : "/v1/completions";
  const answer = tenant.post(path, { model: card.id, ...fields });
  await playScored(await tenant.queuedJob(), text);
  const reply = await answer;
  expect(reply.status).toBe(200);
  return reply.json();
}

describe("echo", () => {
  test("with logprobs has the prompt's tokens before those of the output", async () => {
    const reply = await complete({ prompt: "héllo", echo: true, logprobs: 1 });
    expect(reply["choices"]).toEqual([
      {
        index: 0,
        text: "héllo you",
        logprobs: {
          tokens: ["<bos>", "hé", "llo", " you"],
          token_logprobs: [null, -1, -2, -3],
          top_logprobs: [
            null,
            { "!": -0.5, hé: -1 },
            { "!": -0.5, llo: -2 },
            { "!": -0.5, " you": -3 },
          ],
          text_offset: [0, 0, 2, 5],
        },
        finish_reason: "stop",
      },
    ]);
  });

  test("of token ids has their text, and max_tokens 0 nothing else", async () => {
    const reply = await complete({ prompt: [1, 2, 3], echo: true, max_tokens: 0 }, "");
    expect(reply["choices"]).toMatchObject([{ text: "<bos>héllo", logprobs: null }]);
  });

  test("of token ids keeps a leading U+FEFF", async () => {
    const answer = tenant.post("/v1/completions", {
      model: card.id,
      prompt: [1, 2, 3],
      echo: true,
      logprobs: 0,
    });
    const prompt = ["\uFEFF", "a", "b"].map((token, i) => promptToken(i, token, i ? -1 : null));
    await playScored(await tenant.queuedJob(), " you", prompt);
    const { choices } = await (await answer).json<{ choices: object[] }>();
    expect(choices).toMatchObject([
      { text: "\uFEFFab you", logprobs: { text_offset: [0, 1, 2, 3] } },
    ]);
  });

  test("of text without logprobs scores nothing, also in a stream", async () => {
    const body = { model: card.id, prompt: "héllo", echo: true, stream: true };
    const reply = await tenant.post("/v1/completions", body);
    const id = await tenant.queuedJob();
    expect((await store.record(id))?.generation.promptLogprobs).toBeUndefined();
    await playScored(id);
    const text = await reply.text();
    expect(text).toMatch(/"text":"héllo".*"text":" you".*\[DONE\]/s);
  });

  test.each([{ prompt: "a", logprobs: 0 }, { prompt: ["a", "b"] }, { prompt: [1] }])(
    "cannot be streamed with %j",
    async (fields) => {
      const body = { model: card.id, echo: true, stream: true, ...fields };
      expect(await errorOf(await tenant.post("/v1/completions", body))).toMatchObject({
        status: 400,
        param: "stream",
      });
    },
  );
});

test.each([{ prompt: "héllo" }, { messages: [{ role: "user", content: "héllo" }] }])(
  "prompt_logprobs of %j is what vLLM replies",
  async (input) => {
    const reply = await complete({ ...input, prompt_logprobs: 1 });
    const holder = "prompt" in input ? reply["choices"]![0] : reply;
    expect(holder["prompt_logprobs"]).toEqual([
      null,
      {
        "2": { logprob: -1, rank: 2, decoded_token: "hé" },
        "9": { logprob: -0.5, rank: 1, decoded_token: "!" },
      },
      {
        "3": { logprob: -2, rank: 2, decoded_token: "llo" },
        "9": { logprob: -0.5, rank: 1, decoded_token: "!" },
      },
    ]);
  },
);

test("the job's own output has the prompt's details, and its text and tokens without them", async () => {
  const answer = tenant.post("/v1/completions", {
    model: card.id,
    prompt: "a",
    prompt_logprobs: 1,
  });
  const id = await tenant.queuedJob();
  await playScored(id);
  await answer;
  const { output } = await tenant.job(id);
  expect(output).toMatchObject({ text: " you", prompt_logprobs: PROMPT });
  const progress = await store.progress(id);
  expect(progress.ids).toEqual([4]);
});

test("a job that is ended by another process counts only its output as generated", async () => {
  void tenant.post("/v1/completions", { model: card.id, prompt: "a", prompt_logprobs: 1 });
  const id = await tenant.queuedJob();
  const { attempt } = await claim(id);
  await store.recordPrefill(id, attempt, 3);
  await store.appendTokens(id, attempt, 0, { ids: [], text: "", prompt_logprobs: PROMPT });
  await store.appendTokens(id, attempt, 3, { ids: [4], text: "x" }, 1);
  const record = (await store.record(id))!;
  const ended = await store.endWithError(record, "expired", null);
  expect(ended?.outcome).toMatchObject({
    usage: { ...usage, prompt_tokens: 3, completion_tokens: 1, total_tokens: 4 },
  });
});

describe("a request with many prompts", () => {
  const MANY = LIMITS.jobsPerRequestMax;

  test("stores once what they share, and shares the room for log-probabilities by their lengths", async () => {
    const prompt = Array.from({ length: MANY }, (_, i) => (i === 0 ? "x".repeat(400) : `${i}`));
    const stop = ["s".repeat(LIMITS.stopCharsMax)];
    void tenant.post("/v1/completions", {
      model: card.id,
      prompt,
      stop,
      echo: true,
      logprobs: 1,
      max_tokens: 0,
    });
    await expect.poll(() => tenant.queuedJobs(), { timeout: 10_000 }).toHaveLength(MANY);
    const ids = (await tenant.queuedJobs()).sort();
    const [first, second] = [(await store.record(ids[0]!))!, (await store.record(`${ids[0]}-1`))!];
    expect(first.requestOptions).toMatchObject({ choices: MANY, echo: true });
    expect(second.generation).toMatchObject({
      input: { kind: "text", text: "1" },
      stop,
      maxTokens: 0,
    });
    const total = LIMITS.reportEntriesMax / 2;
    const size = 100 + MANY - 1;
    expect([first, second].map(({ generation }) => generation.promptLogprobs)).toEqual([
      { top: 1, tokensMax: Math.floor((100 * total) / size) },
      { top: 1, tokensMax: Math.floor(total / size) },
    ]);
    expect(await redis.hget(sharedKey(ids[0]!), "jobs")).toBe(String(MANY));
    for (const id of ids) await store.delete(id);
  });

  const long = Array.from({ length: 24 }, () => Array.from({ length: 31 }, () => 1));
  test.each([
    [{ prompt: Array.from({ length: MANY + 1 }, () => "a") }, "prompt"],
    [{ prompt: Array.from({ length: MANY }, () => "a"), n: 2 }, "n"],
    [{ prompt: Array.from({ length: 17 }, () => "a"), max_tokens: 32_768 }, "max_tokens"],
    [{ prompt: Array.from({ length: 17 }, () => "a"), stream: true }, "stream"],
    [
      {
        prompt: Array.from({ length: 20 }, () => long).flat(),
        n: 1,
        logprobs: 20,
        echo: true,
        max_tokens: 0,
      },
      "prompt",
    ],
    [{ prompt: "a", stream: true, prompt_logprobs: 0 }, "prompt_logprobs"],
  ])("is refused if it asks for too much: %#", async (fields, param) => {
    const reply = await tenant.post("/v1/completions", { model: card.id, ...fields });
    expect(await errorOf(reply)).toMatchObject({ status: 400, param });
    expect(await tenant.queuedJobs()).toEqual([]);
  });
});
