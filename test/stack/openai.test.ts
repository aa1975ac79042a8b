/** The official `openai` client, unmodified, against the whole stack. */
import OpenAI, { AuthenticationError, BadRequestError, NotFoundError } from "openai";
import { beforeAll, describe, expect, test } from "vitest";
import { allEvents, useStack } from "./stack.ts";

const stack = useStack();
let openai: OpenAI;
beforeAll(() => {
  openai = new OpenAI({ baseURL: `${stack.edge.url}/v1`, apiKey: stack.key.key, maxRetries: 0 });
});

const chat = {
  model: "atlas-qa",
  messages: [{ role: "user" as const, content: "What is the capital of France?" }],
  temperature: 0,
  max_tokens: 24,
};
const completion = {
  model: "atlas-qa",
  prompt: "the capital of france",
  temperature: 0,
  max_tokens: 12,
};

test("models are listed and found", async () => {
  const ids = (await openai.models.list()).data.map((model) => model.id);
  expect(ids).toEqual(["atlas-qa", "gsm-mini"]);
  expect(await openai.models.retrieve("gsm-mini")).toMatchObject({
    id: "gsm-mini",
    object: "model",
  });
});

describe("chat", () => {
  test("is answered whole, or streamed with the same text, finish reason and usage", async () => {
    const whole = await openai.chat.completions.create(chat);
    expect(whole.object).toBe("chat.completion");

    const stream = openai.chat.completions.stream({
      ...chat,
      stream_options: { include_usage: true },
    });
    const final = await stream.finalChatCompletion();
    expect(final.choices[0]?.message.content).toBe(whole.choices[0]?.message.content);
    expect(final.choices[0]?.finish_reason).toBe(whole.choices[0]?.finish_reason);
    const { prompt_tokens, completion_tokens, total_tokens } = whole.usage!;
    expect(final.usage).toMatchObject({ prompt_tokens, completion_tokens, total_tokens });
  });

  test("that goes on finds what was said before, and tells how much of it", async () => {
    const messages = [...chat.messages, ...chat.messages];
    const first = await openai.chat.completions.create({ ...chat, messages });
    const { content } = first.choices[0]!.message;
    const next = [...messages, { role: "assistant" as const, content }, ...messages];
    const { usage } = await openai.chat.completions.create({ ...chat, messages: next });
    const cached = usage?.prompt_tokens_details?.cached_tokens ?? 0;
    expect(cached).toBeGreaterThan(0);
    expect(cached).toBeLessThan(usage!.prompt_tokens);
  });

  test("takes steering as an extra field", async () => {
    const ask = async (alpha: number) => {
      const steered: typeof chat = Object.assign({ steering: { alpha } }, chat);
      const reply = await openai.chat.completions.create(steered);
      return reply.choices[0]?.message.content;
    };
    expect(await ask(0)).not.toBe(await ask(2));
  });

  test("that is left early goes on as the job it is", async () => {
    const { data, response } = await openai.chat.completions
      .create({ ...chat, stream: true, max_tokens: 200, logit_bias: { "0": -100 } })
      .withResponse();
    for await (const chunk of data) if (chunk.choices[0]?.delta.content) break;
    const id = response.headers.get("x-trimtab-job-id") ?? "";
    const events = await allEvents(stack.client, id);
    expect(events.at(-1)).toMatchObject({ type: "succeeded", finish_reason: "length" });
  });
});

describe("completions", () => {
  test("are answered whole, or streamed with the same text", async () => {
    const whole = await openai.completions.create(completion);
    expect(whole.usage?.completion_tokens).toBe(12);
    let text = "";
    for await (const chunk of await openai.completions.create({ ...completion, stream: true })) {
      text += chunk.choices[0]?.text ?? "";
    }
    expect(text).toBe(whole.choices[0]?.text);
  });
});

describe("errors are the client's own classes", () => {
  test("for a wrong key", async () => {
    const stranger = openai.withOptions({ apiKey: "tt_wrong" });
    await expect(stranger.models.list()).rejects.toBeInstanceOf(AuthenticationError);
  });

  test("for a model that nobody serves", async () => {
    const error = await openai.chat.completions
      .create({ ...chat, model: "none" })
      .catch((e: unknown) => e);
    expect(error).toBeInstanceOf(NotFoundError);
    expect(error).toMatchObject({ code: "model_not_found", param: "model" });
  });

  test("for a bad value, naming the field and the request", async () => {
    const error = await openai.completions
      .create({ ...completion, top_p: 2 })
      .catch((e: unknown) => e);
    expect(error).toBeInstanceOf(BadRequestError);
    expect(error).toMatchObject({ code: "invalid_request", param: "top_p" });
    expect((error as BadRequestError).requestID).toMatch(/^req_/);
  });
});
