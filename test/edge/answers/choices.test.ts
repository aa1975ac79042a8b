/** Requests with several choices: each choice is a job, and the reply combines all of them. */
import type OpenAI from "openai";
import { beforeEach, describe, expect, test, vi } from "vitest";
import { LIMITS } from "../../../shared/api/limits.ts";
import { MODELS_KEY } from "../../../shared/redis/keys.ts";
import { takeTokenizerRequest } from "../../../shared/workers/tokenizer-requests.ts";
import {
  card,
  claim,
  errorOf,
  newTenant,
  play,
  appendText,
  openaiOf,
  redis,
  store,
  streamsAwaitTheirStart,
  success,
} from "../harness.ts";
import { usage, type Client } from "../harness.ts";

const messages: OpenAI.ChatCompletionMessageParam[] = [{ role: "user", content: "Hi" }];
const chat = { model: card.id, messages, n: 2, seed: 7 };

let tenant: Client;
let openai: OpenAI;
beforeEach(async () => {
  tenant = await newTenant();
  openai = openaiOf(tenant);
});

/** The tenant's queued jobs, in the order of their choices. Waits until there are `count`. */
async function queued(count: number): Promise<string[]> {
  await expect.poll(() => tenant.queuedJobs(), { timeout: 10_000 }).toHaveLength(count);
  return (await tenant.queuedJobs()).sort();
}

const generationOf = async (id: string) => (await store.record(id))!.generation;

describe("a chat with n", () => {
  test("has one job per choice, with successive seeds, and one reply; usage counts the prompt once", async () => {
    const answer = openai.chat.completions.create({ ...chat, user: "u" });
    const ids = await queued(2);
    expect(ids[1]).toBe(`${ids[0]}-1`);
    const seeds = await Promise.all(ids.map(async (id) => (await generationOf(id)).seed));
    expect(seeds).toEqual([7, 8]);
    expect((await store.record(ids[0]!))?.requestOptions).toMatchObject({ choices: 2, user: "u" });
    // In reverse order: the order in which choices end does not change their order in the reply.
    await play(ids[1]!, ["b"]);
    await play(ids[0]!, ["a"]);
    const reply = await answer;
    expect(reply.id).toBe(`chatcmpl-${ids[0]}`);
    expect(reply.choices.map(({ index, message }) => [index, message.content])).toEqual([
      [0, "a"],
      [1, "b"],
    ]);
    expect(reply.usage).toMatchObject({
      prompt_tokens: usage.prompt_tokens,
      completion_tokens: 2 * usage.completion_tokens,
      total_tokens: usage.prompt_tokens + 2 * usage.completion_tokens,
    });
  });

  test("of which one fails before a stream's first token gets its error, and the others are cancelled", async () => {
    streamsAwaitTheirStart();
    const stream = openai.completions.create({
      model: card.id,
      prompt: ["short", "too long"],
      stream: true,
    });
    stream.catch(() => {});
    const ids = await queued(2);
    const code = "context_length_exceeded";
    const error = { code, message: "It is too long" } as const;
    await play(ids[1]!, [], { ...success, finish_reason: null, error });
    await expect(stream).rejects.toMatchObject({ status: 400, code, param: "prompt.1" });
    expect((await store.record(ids[0]!))?.state).toBe("cancelled");
  });

  test("of prompts of which one is refused while no slot is free gets its error: a worker checks one job of each", async () => {
    streamsAwaitTheirStart();
    // Another file of tests takes the requests for tokenizers of the usual model.
    const model = "choices-checked";
    await redis.hset(MODELS_KEY, model, JSON.stringify({ ...card, id: model }));
    const body = { model, prompt: ["short", "too long"], n: 2, stream: true };
    const reply = tenant.post("/v1/completions", body);
    const ids = await queued(4);
    const checked: string[] = [];
    while (checked.length < 2) {
      const check = await vi.waitUntil(() => takeTokenizerRequest(redis, model), 10_000);
      if ("job" in check) checked.push(check.job);
    }
    expect(checked).toEqual([ids[0], ids[2]]);
    const error = { code: "context_length_exceeded", message: "It is too long" } as const;
    const record = (await store.record(ids[2]!))!;
    await store.endWithError(record, "failed", error);
    expect(await errorOf(await reply)).toMatchObject({ status: 400, param: "prompt.1", ...error });
    const states = await Promise.all(ids.map(async (id) => (await store.record(id))?.state));
    expect(states).toEqual(["cancelled", "cancelled", "failed", "cancelled"]);
  });

  test("of prompts of which one is refused gets its error, also if the token of another came first", async () => {
    const request = { model: card.id, prompt: ["short", "too long"], stream: true };
    streamsAwaitTheirStart();
    const reply = tenant.post("/v1/completions", request);
    const ids = await queued(2);
    await play(ids[0]!, ["a"]);
    const error = { code: "context_length_exceeded", message: "It is too long" } as const;
    await play(ids[1]!, [], { ...success, finish_reason: null, error });
    expect(await errorOf(await reply)).toMatchObject({ status: 400, param: "prompt.1", ...error });
  });

  test("streams the text of each choice as it is generated, and ends once", async () => {
    const stream = await openai.chat.completions.create({
      ...chat,
      stream: true,
      stream_options: { include_usage: true },
    });
    const chunks = stream[Symbol.asyncIterator]();
    const next = async () => (await chunks.next()).value!;
    expect((await next()).choices).toMatchObject([{ index: 0, delta: { role: "assistant" } }]);
    expect((await next()).choices).toMatchObject([{ index: 1, delta: { role: "assistant" } }]);
    const [first, second] = (await queued(2)) as [string, string];
    const { attempt } = await claim(second);
    await appendText(second, attempt, "b");
    expect((await next()).choices).toMatchObject([{ index: 1, delta: { content: "b" } }]);
    await play(first, ["a"]);
    expect((await next()).choices).toMatchObject([{ index: 0, delta: { content: "a" } }]);
    expect((await next()).choices).toMatchObject([{ index: 0, finish_reason: "stop" }]);
    await store.finish(second, attempt, "succeeded", "b", success);
    expect((await next()).choices).toMatchObject([{ index: 1, finish_reason: "stop" }]);
    expect((await next()).usage).toMatchObject({ completion_tokens: 4 });
    expect((await chunks.next()).done).toBe(true);
  });

  test("fails with the first choice that fails", async () => {
    const answer = openai.chat.completions.create(chat);
    answer.catch(() => {});
    const [, second] = await queued(2);
    const error = { code: "worker_lost", message: "It was lost" } as const;
    await play(second!, [], { finish_reason: null, usage, error });
    await expect(answer).rejects.toMatchObject({ status: 500, code: "worker_lost" });
  });
});

test("choices are in the order of the prompts, n for each prompt", async () => {
  const answer = openai.completions.create({
    model: card.id,
    prompt: ["one", "two"],
    n: 2,
    seed: 2 ** 53 - 1,
    logprobs: 0,
  });
  const ids = await queued(4);
  const generations = await Promise.all(ids.map(generationOf));
  expect(generations.map(({ input, seed }) => [input, seed])).toEqual([
    [{ kind: "text", text: "one" }, 2 ** 53 - 1],
    [{ kind: "text", text: "one" }, 0],
    [{ kind: "text", text: "two" }, 2 ** 53 - 1],
    [{ kind: "text", text: "two" }, 0],
  ]);
  await Promise.all(ids.map((id, i) => play(id, [String(i)])));
  const reply = await answer;
  expect(reply.choices.map(({ text }) => text)).toEqual(["0", "1", "2", "3"]);
  expect(reply.usage?.prompt_tokens).toBe(2 * usage.prompt_tokens);
});

test("each of several prompts may be token ids", async () => {
  void tenant.post("/v1/completions", { model: card.id, prompt: [[1, 2], [3]] });
  const inputs = (await Promise.all((await queued(2)).map(generationOf))).map(({ input }) => input);
  expect(inputs).toEqual([
    { kind: "tokens", ids: [1, 2] },
    { kind: "tokens", ids: [3] },
  ]);
});

test("the number of choices is limited", async () => {
  const most = LIMITS.choicesMax;
  const refuse = async (fields: object) =>
    errorOf(await tenant.post("/v1/completions", { model: card.id, prompt: "x", ...fields }));
  expect(await refuse({ n: most + 1 })).toMatchObject({ status: 400, param: "n" });
  expect(await refuse({ prompt: [] })).toMatchObject({ status: 400, param: "prompt" });
  const traced = { steering: { trace: true }, max_tokens: LIMITS.maxTokensMax, n: 2 };
  expect(await refuse(traced)).toMatchObject({ status: 400, param: "max_tokens" });
  const metadata = Object.fromEntries(Array.from({ length: 16 }, (_, i) => [`k${i}`, "v"]));
  const many = { prompt: Array.from({ length: 129 }, () => "x"), max_tokens: 1, metadata };
  expect(await refuse(many)).toMatchObject({ status: 400, param: "metadata" });
  expect(await tenant.queuedJobs()).toEqual([]);
});

test("a prompt that fails ends the others, and the error names it", async () => {
  const body = { model: card.id, prompt: ["one", "two", "three"], n: 2 };
  const answer = tenant.post("/v1/completions", body);
  const ids = (await queued(6)).sort();
  await play(ids[0]!, ["done"]);
  const { attempt } = await claim(ids[1]!);
  const error = { code: "context_length_exceeded", message: "Too long" } as const;
  await play(ids[3]!, [], { finish_reason: null, usage, error });
  expect(await errorOf(await answer)).toMatchObject({
    status: 400,
    code: "context_length_exceeded",
    param: "prompt.1",
  });
  const states = await Promise.all(ids.map(async (id) => (await store.record(id))?.state));
  expect(states).toEqual(["succeeded", "running", "cancelled", "failed", "cancelled", "cancelled"]);
  expect((await store.record(ids[1]!))?.cancelRequested).toBe(true);
  await store.finish(ids[1]!, attempt, "cancelled", "", success);
});

test("reading a chat again cancels nothing, although one of its choices failed", async () => {
  const answer = openai.chat.completions.create({ ...chat, stream: true });
  const ids = await queued(2);
  (await answer).controller.abort();
  const error = { code: "worker_lost", message: "It was lost" } as const;
  await play(ids[1]!, [], { finish_reason: null, usage, error });
  const reply = await tenant.get(`/v1/chat/completions/${ids[0]}`);
  expect(await errorOf(reply)).toMatchObject({ code: "worker_lost" });
  expect((await store.record(ids[0]!))?.state).toBe("queued");
});

describe("a stored chat", () => {
  test("is read again by its id, and is deleted with all its choices", async () => {
    const answer = openai.chat.completions.create({ ...chat, store: true });
    const ids = await queued(2);
    await Promise.all(ids.map((id, i) => play(id, [`a${i}`])));
    const whole = await answer;
    expect(await openai.chat.completions.retrieve(whole.id)).toEqual(whole);
    const single = await openai.chat.completions.retrieve(`chatcmpl-${ids[1]}`);
    expect(single.choices.map(({ message }) => message.content)).toEqual(["a1"]);
    expect(await openai.chat.completions.delete(whole.id)).toEqual({
      id: whole.id,
      object: "chat.completion.deleted",
      deleted: true,
    });
    for (const id of ids) expect(await store.record(id)).toBeNull();
    await expect(openai.chat.completions.retrieve(whole.id)).rejects.toThrow("no such job");
  });

  test("is streamed again from any event", async () => {
    const { id } = await tenant.submit();
    await play(id, ["Hel", "lo"]);
    const read = async (cursor: string) => {
      const reply = await tenant.get(`/v1/chat/completions/${id}?stream=true${cursor}`);
      return reply.status === 200 ? reply.text() : reply.status;
    };
    expect(await read("")).toMatch(/"role":"assistant".*"Hel".*"lo".*"stop".*\[DONE\]/s);
    const rest = await read("&starting_after=3");
    expect(rest).toMatch(/^id: 4\n.*"lo".*"stop".*\[DONE\]/s);
    expect(rest).not.toContain("Hel");
    expect(await read("&starting_after=5")).toBe(204);
  });

  test("is not found by another tenant", async () => {
    const { id } = await (await newTenant()).submit();
    for (const method of ["GET", "DELETE"]) {
      const reply = await tenant.send(`/v1/chat/completions/chatcmpl-${id}`, method);
      expect(reply.status).toBe(404);
    }
    expect(await store.record(id)).not.toBeNull();
  });
});
