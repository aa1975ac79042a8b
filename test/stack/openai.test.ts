/** The two major versions of the official `openai` client that are in use, unmodified, against the whole stack. */
import * as v7 from "openai";
import * as v6 from "openai-6";
import { beforeAll, describe, expect, test } from "vitest";
import { allEvents, useStack } from "./stack.ts";

const stack = useStack();

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
const ask = {
  model: "atlas-qa",
  input: "What is the capital of France?",
  temperature: 0,
  max_output_tokens: 24,
};
/** Runs until the context is full: the end-of-sequence token is forbidden. */
const long: typeof ask = Object.assign({}, ask, {
  max_output_tokens: 480,
  logit_bias: { "0": -100 },
});

describe.each([
  ["7", v7],
  // Nothing is used here in which the types of the two versions differ.
  ["6", v6 as unknown as typeof v7],
] as const)("openai %s", (_, { OpenAI, AuthenticationError, BadRequestError, NotFoundError }) => {
  let openai: v7.OpenAI;
  beforeAll(() => {
    openai = new OpenAI({ baseURL: `${stack.edge.url}/v1`, apiKey: stack.key.key, maxRetries: 0 });
  });

  test("models are listed and found", async () => {
    const ids = (await openai.models.list()).data.map((model) => model.id);
    expect(ids).toEqual(["atlas-qa", "gsm-mini"]);
    expect(await openai.models.retrieve("gsm-mini")).toMatchObject({
      id: "gsm-mini",
      object: "model",
    });
  });

  describe("a chat", () => {
    test("has the same text, finish reason and usage, complete or streamed", async () => {
      const whole = await openai.chat.completions.create(chat);
      expect(whole.object).toBe("chat.completion");

      const stream = openai.chat.completions.stream({
        ...chat,
        stream_options: { include_usage: true },
      });
      const final = await stream.finalChatCompletion();
      expect(final.choices[0]?.message.content).toBe(whole.choices[0]?.message.content);
      expect(final.choices[0]?.finish_reason).toBe(whole.choices[0]?.finish_reason);
      expect(final.usage?.total_tokens).toBe(whole.usage?.total_tokens);
      expect((await openai.chat.completions.retrieve(whole.id)).choices).toEqual(whole.choices);
    });

    test("takes steering as an extra field", async () => {
      const steeredText = async (alpha: number) => {
        const steered: typeof chat = Object.assign({ steering: { alpha } }, chat);
        const reply = await openai.chat.completions.create(steered);
        return reply.choices[0]?.message.content;
      };
      expect(await steeredText(0)).not.toBe(await steeredText(2));
    });

    test("with n choices gives each the text of a single request with its seed", async () => {
      // The base model alone at a high temperature: every seed has another text.
      const drawn = { ...chat, steering: { alpha: 0 }, temperature: 2, seed: 40 };
      const textOfSeed = async (seed: number) =>
        (await openai.chat.completions.create({ ...drawn, seed })).choices[0]?.message.content;
      const { choices } = await openai.chat.completions.create({ ...drawn, n: 3 });
      const alone = [await textOfSeed(40), await textOfSeed(41), await textOfSeed(42)];
      expect(choices.map(({ message }) => message.content)).toEqual(alone);
      expect(new Set(alone).size).toBe(3);
    });

    test("continues as a job if its stream is left early", async () => {
      const { data, response } = await openai.chat.completions
        .create({ ...chat, stream: true, max_tokens: 200, logit_bias: { "0": -100 } })
        .withResponse();
      for await (const chunk of data) if (chunk.choices[0]?.delta.content) break;
      const id = response.headers.get("x-trimtab-job-id") ?? "";
      const events = await allEvents(stack.client, id);
      expect(events.at(-1)).toMatchObject({ type: "succeeded", finish_reason: "length" });
    });
  });

  test("a completion has the same text, complete or streamed beside another prompt", async () => {
    const whole = await openai.completions.create(completion);
    expect(whole.usage?.completion_tokens).toBe(12);
    const texts = ["", ""];
    const prompt = [completion.prompt, "the capital of spain"];
    for await (const chunk of await openai.completions.create({
      ...completion,
      prompt,
      stream: true,
    })) {
      for (const { index, text } of chunk.choices) texts[index] += text;
    }
    expect(texts[0]).toBe(whole.choices[0]?.text);
    expect(texts[1]).not.toBe("");
  });

  describe("a response", () => {
    test("has the text of the same chat, complete or streamed", async () => {
      const { choices } = await openai.chat.completions.create(chat);
      const whole = await openai.responses.create(ask);
      expect(whole.output_text).toBe(choices[0]?.message.content);
      const streamed = await openai.responses.stream(ask).finalResponse();
      expect(streamed.output).toMatchObject([{ content: [{ text: whole.output_text }] }]);
      expect(streamed.status).toBe(whole.status);
    });

    test("continues an earlier response as if it had the whole conversation as input", async () => {
      const first = await openai.responses.create(ask);
      const input = "What is the capital of Spain?";
      const next = await openai.responses.create({
        ...ask,
        input,
        previous_response_id: first.id,
      });
      const fromItems = await openai.responses.create({
        ...ask,
        input: [
          { role: "user", content: ask.input },
          ...(first.output as v7.OpenAI.Responses.ResponseInputItem[]),
          { role: "user", content: input },
        ],
      });
      expect(next.output_text).toBe(fromItems.output_text);
      expect(next.usage?.input_tokens).toBe(fromItems.usage?.input_tokens);
    });

    test("follows a format, which the client parses", async () => {
      const schema = {
        type: "object",
        properties: { city: { enum: ["paris", "madrid"] } },
        required: ["city"],
        additionalProperties: false,
      };
      const format = { type: "json_schema" as const, name: "answer", strict: true, schema };
      const parsed = await openai.responses.parse({ ...ask, text: { format } });
      expect(parsed).toMatchObject({ status: "completed", text: { format } });
      expect(["paris", "madrid"]).toContain(
        (JSON.parse(parsed.output_text) as { city: string }).city,
      );
    });

    test("can be left, resumed, cancelled and deleted if it runs in the background", async () => {
      const stream = await openai.responses.create({ ...long, background: true, stream: true });
      let id = "";
      let cursor = -1;
      let text = "";
      for await (const event of stream) {
        cursor = event.sequence_number;
        if (event.type === "response.created") id = event.response.id;
        if (event.type !== "response.output_text.delta") continue;
        text += event.delta;
        if (text.length > 8) break;
      }
      const rest = await openai.responses.retrieve(id, { stream: true, starting_after: cursor });
      let last: v7.OpenAI.Responses.Response | null = null;
      for await (const event of rest) {
        expect(event.sequence_number).toBe(++cursor);
        if (event.type === "response.output_text.delta") text += event.delta;
        if (event.type === "response.incomplete") last = event.response;
      }
      expect(last?.incomplete_details).toEqual({ reason: "max_output_tokens" });
      expect((await openai.responses.retrieve(id)).output_text).toBe(text);

      const other = await openai.responses.create({ ...long, background: true });
      expect((await openai.responses.cancel(other.id)).status).toBe("cancelled");
      expect((await openai.responses.cancel(other.id)).status).toBe("cancelled");
      await openai.responses.delete(other.id);
      await expect(openai.responses.retrieve(other.id)).rejects.toBeInstanceOf(NotFoundError);
    });

    test("frees its slot if it is deleted while it runs", async () => {
      const running = await openai.responses.create({ ...long, background: true });
      await openai.responses.delete(running.id);
      expect((await openai.responses.create(ask)).output_text).not.toBe("");
      await expect(openai.responses.retrieve(running.id)).rejects.toBeInstanceOf(NotFoundError);
    });

    test("can be read as a job, and a job as a response", async () => {
      const { id } = await stack.client.submit({ ...chat, seed: 1 });
      const events = await Array.fromAsync(await openai.responses.retrieve(id, { stream: true }));
      const end = events.at(-1);
      const job = await stack.client.read(id);
      expect(end).toMatchObject({
        response: {
          id: id.replace("job_", "resp_"),
          output: [{ content: [{ text: job.output.text }] }],
        },
      });
      const response = await openai.responses.create(ask);
      expect((await stack.client.read(response.id)).output.text).toBe(response.output_text);
    });
  });

  describe("errors are the client's own classes", () => {
    test("for a wrong key", async () => {
      const stranger = openai.withOptions({ apiKey: "tt_wrong" });
      await expect(stranger.models.list()).rejects.toBeInstanceOf(AuthenticationError);
    });

    test("for a model that no worker serves", async () => {
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
      expect((error as v7.BadRequestError).requestID).toMatch(/^req_/);
    });

    test("for a feature that a text model does not have", async () => {
      const error = await openai.responses
        .create({ ...ask, tools: [{ type: "web_search" }] })
        .catch((e: unknown) => e);
      expect(error).toBeInstanceOf(BadRequestError);
      expect(error).toMatchObject({ code: "unsupported_parameter", param: "tools.0.type" });
    });
  });
});
