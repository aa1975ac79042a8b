/** The official `openai` client, unmodified, against the edge: what it parses is what these protocols mean. */
import type OpenAI from "openai";
import { beforeEach, describe, expect, test } from "vitest";
import type { Outcome } from "../../shared/contract.ts";
import {
  card,
  claim,
  jobEvents,
  newTenant,
  say,
  openaiOf,
  store,
  usage,
  type Client,
} from "./harness.ts";

const messages: OpenAI.ChatCompletionMessageParam[] = [{ role: "user", content: "Hi" }];
const chat = { model: card.id, messages };
const completion = { model: card.id, prompt: "Once" };

let tenant: Client;
let openai: OpenAI;
beforeEach(async () => {
  tenant = await newTenant();
  openai = openaiOf(tenant);
});

describe("chat", () => {
  test("a whole answer", async () => {
    const [id, reply] = await Promise.all([
      tenant.playNext(["Hel", "lo"]),
      openai.chat.completions.create(chat).withResponse(),
    ]);
    expect(reply.response.headers.get("x-trimtab-job-id")).toBe(id);
    expect(reply.data).toEqual({
      id: `chatcmpl-${id}`,
      object: "chat.completion",
      created: expect.any(Number),
      model: card.id,
      choices: [
        {
          index: 0,
          message: { role: "assistant", content: "Hello", refusal: null },
          logprobs: null,
          finish_reason: "stop",
        },
      ],
      usage,
    });
    expect(Number.isInteger(reply.data.created)).toBe(true);
  });

  test("a stream: the role, each piece when it is there, the reason, and the end", async () => {
    const stream = await openai.chat.completions.create({ ...chat, stream: true });
    const chunks = stream[Symbol.asyncIterator]();
    const delta = async () => (await chunks.next()).value?.choices[0];
    expect((await delta())?.delta).toEqual({ role: "assistant", content: "", refusal: null });
    const id = await tenant.queuedJob();
    const { attempt } = await claim(id);
    for (const piece of ["Hel", "", "lo"]) await say(id, attempt, piece);
    expect((await delta())?.delta).toEqual({ content: "Hel" });
    expect((await delta())?.delta).toEqual({ content: "lo" });
    const outcome = { finish_reason: "length", usage, error: null } as const;
    await store.finish(id, attempt, "succeeded", "Hello", outcome);
    expect(await delta()).toMatchObject({ delta: {}, finish_reason: "length" });
    expect((await chunks.next()).done).toBe(true);
  });

  test("usage comes last and only when it is asked for", async () => {
    const [, stream] = await Promise.all([
      tenant.playNext(["a"]),
      openai.chat.completions.create({
        ...chat,
        stream: true,
        stream_options: { include_usage: true },
      }),
    ]);
    const chunks = await Array.fromAsync(stream);
    expect(chunks.map((chunk) => chunk.usage)).toEqual([null, null, null, usage]);
    expect(chunks.at(-1)?.choices).toEqual([]);
    const [, plain] = await Promise.all([
      tenant.playNext(["a"]),
      openai.chat.completions.create({ ...chat, stream: true }),
    ]);
    for await (const chunk of plain) expect(chunk).not.toHaveProperty("usage");
  });

  test("the client's own accumulator accepts the stream", async () => {
    const stream = openai.chat.completions.stream(chat);
    await tenant.playNext(["Hel", "lo"]);
    expect(await stream.finalContent()).toBe("Hello");
  });

  test("max_completion_tokens wins over the older max_tokens", async () => {
    const answer = openai.chat.completions.create({
      ...chat,
      max_tokens: 5,
      max_completion_tokens: 6,
    });
    const id = await tenant.playNext([]);
    await answer;
    expect((await store.record(id))?.generation.maxTokens).toBe(6);
  });

  test("steering, which the client has no word for, passes as an extra field", async () => {
    const answer = openai.chat.completions.create({ ...chat, steering: { alpha: 2 } } as never);
    const id = await tenant.playNext([]);
    await answer;
    expect((await store.record(id))?.generation.alpha).toBe(2);
  });
});

describe("completions", () => {
  test("a whole answer", async () => {
    const [id, reply] = await Promise.all([
      tenant.playNext([" upon", " a time"]),
      openai.completions.create(completion),
    ]);
    expect(reply).toEqual({
      id: `cmpl-${id}`,
      object: "text_completion",
      created: expect.any(Number),
      model: card.id,
      choices: [{ index: 0, text: " upon a time", logprobs: null, finish_reason: "stop" }],
      usage,
    });
  });

  test("a stream of the same shape", async () => {
    const [, stream] = await Promise.all([
      tenant.playNext([" upon", " a time"]),
      openai.completions.create({
        ...completion,
        stream: true,
        stream_options: { include_usage: true },
      }),
    ]);
    const chunks = await Array.fromAsync(stream);
    expect(chunks.map((chunk) => chunk.choices[0]?.text)).toEqual([
      " upon",
      " a time",
      "",
      undefined,
    ]);
    expect(chunks[2]?.choices[0]?.finish_reason).toBe("stop");
    expect(chunks[3]?.usage).toEqual(usage);
  });

  test("a prompt of token ids stays one", async () => {
    const answer = openai.completions.create({ ...completion, prompt: [1, 2, 3] });
    const id = await tenant.playNext([]);
    await answer;
    const input = (await store.record(id))?.generation.input;
    expect(input).toEqual({ kind: "tokens", ids: [1, 2, 3] });
  });
});

describe("a job that does not succeed", () => {
  const failure = (code: "context_length_exceeded" | "worker_lost"): Outcome => ({
    finish_reason: null,
    usage,
    error: { code, message: `It was ${code}` },
  });

  test.each([
    ["context_length_exceeded", 400],
    ["worker_lost", 500],
  ] as const)(
    "answers a whole request with the status of %s, and is not retried",
    async (code, status) => {
      const answer = openai.chat.completions.create(chat);
      answer.catch(() => {});
      await tenant.playNext([], failure(code));
      await expect(answer).rejects.toMatchObject({ status, code, requestID: expect.any(String) });
      await expect(answer).rejects.toThrow(`It was ${code}`);
      expect(await tenant.queuedJobs()).toEqual([]);
    },
  );

  test("breaks a stream off with an error that the client throws", async () => {
    const stream = await openai.chat.completions.create({ ...chat, stream: true });
    await tenant.playNext(["so far"], failure("worker_lost"));
    const seen: (string | null | undefined)[] = [];
    const reading = (async () => {
      for await (const chunk of stream) seen.push(chunk.choices[0]?.delta.content);
    })();
    await expect(reading).rejects.toMatchObject({ code: "worker_lost", type: "server_error" });
    expect(seen).toEqual(["", "so far"]);
  });

  test("was cancelled: 409, not retried", async () => {
    const answer = openai.completions.create(completion);
    answer.catch(() => {});
    await tenant.post(`/v1/jobs/${await tenant.queuedJob()}/cancel`);
    await expect(answer).rejects.toMatchObject({ status: 409, code: "job_cancelled" });
  });

  test("missed its deadline: 504, not retried", async () => {
    const answer = openai.completions.create(completion);
    answer.catch(() => {});
    const expired = { finish_reason: null, usage, error: null };
    await store.finish(await tenant.queuedJob(), 0, "expired", "", expired);
    await expect(answer).rejects.toMatchObject({ status: 504, code: "deadline_exceeded" });
  });
});

test("a stream that broke can be read on as the job that it is", async () => {
  const { data, response } = await openai.chat.completions
    .create({ ...chat, stream: true })
    .withResponse();
  const id = response.headers.get("x-trimtab-job-id")!;
  const { attempt } = await claim(id);
  await say(id, attempt, "Hel");
  for await (const chunk of data) if (chunk.choices[0]?.delta.content === "Hel") break;
  await say(id, attempt, "lo");
  await store.finish(id, attempt, "succeeded", "Hello", {
    finish_reason: "stop",
    usage,
    error: null,
  });
  const rest = await jobEvents(await tenant.get(`/v1/jobs/${id}/events?starting_after=3`));
  expect(rest).toMatchObject([{ seq: 4, text: "lo" }, { type: "succeeded" }]);
});

test("the models that workers serve are listed and found", async () => {
  const model = {
    id: card.id,
    object: "model",
    created: 1_700_000_000,
    owned_by: "trimtab",
    description: card.description,
    context_tokens: card.contextTokens,
    alpha: { default: card.alphaDefault, max: card.alphaMax },
  };
  // Other tests serve models of their own.
  expect((await openai.models.list()).data).toContainEqual(model);
  expect(await openai.models.retrieve(card.id)).toMatchObject(model);
  await expect(openai.models.retrieve("nobody/nothing")).rejects.toMatchObject({
    status: 404,
    code: "model_not_found",
  });
});
