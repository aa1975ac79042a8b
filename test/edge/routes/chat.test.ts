/** The chat and completion protocols with the official `openai` client, unmodified. */
import type OpenAI from "openai";
import { beforeEach, describe, expect, test } from "vitest";
import { LIMITS } from "../../../shared/api/limits.ts";
import { MODELS_KEY } from "../../../shared/redis/keys.ts";
import type { Outcome } from "../../../shared/api/job-events.ts";
import {
  card,
  claim,
  jobEvents,
  newTenant,
  appendText,
  openaiOf,
  redis,
  store,
  usage,
  type Client,
  streamsAwaitTheirStart,
} from "../harness.ts";

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
  test("a reply that is not streamed has the answer, its usage and the job's id", async () => {
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

  test("a stream has the role, each piece of text as it is generated, the finish reason and [DONE]", async () => {
    const stream = await openai.chat.completions.create({ ...chat, stream: true });
    const chunks = stream[Symbol.asyncIterator]();
    const delta = async () => (await chunks.next()).value?.choices[0];
    expect((await delta())?.delta).toEqual({ role: "assistant", content: "", refusal: null });
    const id = await tenant.queuedJob();
    const { attempt } = await claim(id);
    for (const piece of ["Hel", "", "lo"]) await appendText(id, attempt, piece);
    expect((await delta())?.delta).toEqual({ content: "Hel" });
    expect((await delta())?.delta).toEqual({ content: "lo" });
    const outcome = { finish_reason: "length", usage, error: null } as const;
    await store.finish(id, attempt, "succeeded", "Hello", outcome);
    expect(await delta()).toMatchObject({ delta: {}, finish_reason: "length" });
    expect((await chunks.next()).done).toBe(true);
  });

  test("the last chunk has the usage, only if the request asks for it", async () => {
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

  test("without a limit the output may fill the context, of which a usual length is reserved", async () => {
    const limited = await newTenant({ limits: { tokens_per_minute: 1_000 } });
    const large = { ...card, id: "large", contextTokens: 100_000 };
    await redis.hset(MODELS_KEY, large.id, JSON.stringify(large));
    const [reply, id] = await Promise.all([
      openaiOf(limited)
        .chat.completions.create({ ...chat, model: "large" })
        .withResponse(),
      limited.playNext(["Hi"]),
    ]);
    expect((await store.record(id))!.generation.maxTokens).toBe(LIMITS.maxTokensMax);
    const left = Number(reply.response.headers.get("x-ratelimit-remaining-tokens"));
    expect(left).toBe(1_000 - 1 - LIMITS.maxTokensDefault);
  });

  test("max_completion_tokens has precedence over the older max_tokens", async () => {
    const answer = openai.chat.completions.create({
      ...chat,
      max_tokens: 5,
      max_completion_tokens: 6,
    });
    const id = await tenant.playNext([]);
    await answer;
    expect((await store.record(id))?.generation.maxTokens).toBe(6);
  });

  test("steering, which the client does not know, is sent as an extra field", async () => {
    const answer = openai.chat.completions.create({ ...chat, steering: { alpha: 2 } } as never);
    const id = await tenant.playNext([]);
    await answer;
    expect((await store.record(id))?.generation.alpha).toBe(2);
  });
});

describe("completions", () => {
  test("a reply that is not streamed has the text and its usage", async () => {
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

  test("a stream has chunks of the same shape", async () => {
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

  test("a prompt of token ids is one prompt", async () => {
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
    "gives the error %s with its status %d if the request is not streamed, and is not retried",
    async (code, status) => {
      const answer = openai.chat.completions.create(chat);
      answer.catch(() => {});
      await tenant.playNext([], failure(code));
      await expect(answer).rejects.toMatchObject({ status, code, requestID: expect.any(String) });
      await expect(answer).rejects.toThrow(`It was ${code}`);
      expect(await tenant.queuedJobs()).toEqual([]);
    },
  );

  test("ends a stream with an error that the client throws", async () => {
    const stream = await openai.chat.completions.create({ ...chat, stream: true });
    await tenant.playNext(["so far"], failure("worker_lost"));
    const seen: (string | null | undefined)[] = [];
    const reading = (async () => {
      for await (const chunk of stream) seen.push(chunk.choices[0]?.delta.content);
    })();
    await expect(reading).rejects.toMatchObject({ code: "worker_lost", type: "server_error" });
    expect(seen).toEqual(["", "so far"]);
  });

  test("gives its error with its status if it fails before a stream's first token", async () => {
    streamsAwaitTheirStart();
    const stream = openai.chat.completions.create({ ...chat, stream: true });
    stream.catch(() => {});
    await tenant.playNext([], failure("context_length_exceeded"));
    const code = "context_length_exceeded";
    await expect(stream).rejects.toMatchObject({ status: 400, code });
  });

  test("gives 409 if it was cancelled, and is not retried", async () => {
    const answer = openai.completions.create(completion);
    answer.catch(() => {});
    await tenant.post(`/v1/jobs/${await tenant.queuedJob()}/cancel`);
    await expect(answer).rejects.toMatchObject({ status: 409, code: "job_cancelled" });
  });

  test("gives 504 if it missed its deadline, and is not retried", async () => {
    const answer = openai.completions.create(completion);
    answer.catch(() => {});
    const expired = { finish_reason: null, usage, error: null };
    await store.finish(await tenant.queuedJob(), 0, "expired", "", expired);
    await expect(answer).rejects.toMatchObject({ status: 504, code: "deadline_exceeded" });
  });
});

test("a stream that was interrupted can be continued from its job", async () => {
  const { data, response } = await openai.chat.completions
    .create({ ...chat, stream: true })
    .withResponse();
  const id = response.headers.get("x-trimtab-job-id")!;
  const { attempt } = await claim(id);
  await appendText(id, attempt, "Hel");
  for await (const chunk of data) if (chunk.choices[0]?.delta.content === "Hel") break;
  await appendText(id, attempt, "lo");
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
  // Other tests add models too.
  expect((await openai.models.list()).data).toContainEqual(expect.objectContaining(model));
  expect(await openai.models.retrieve(card.id)).toMatchObject(model);
  await expect(openai.models.retrieve("nobody/nothing")).rejects.toMatchObject({
    status: 404,
    code: "model_not_found",
  });
});
