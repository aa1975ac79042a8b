/** Replies of the API can be sent back as they are, with the official `openai` clients of two majors. */
import OpenAI from "openai";
import OpenAI6 from "openai-6";
import { beforeEach, describe, expect, test } from "vitest";
import { card, errorOf, newTenant, openaiOf, play, store, type Client } from "../harness.ts";

let tenant: Client;
beforeEach(async () => {
  tenant = await newTenant();
});

/** Plays the next job. @returns the texts that its worker gets, by role */
async function playNext(answer: string): Promise<string[][]> {
  const id = await tenant.queuedJob();
  await play(id, [answer]);
  const { input } = (await store.record(id))!.generation;
  return input.kind === "chat" ? input.messages.map(({ role, content }) => [role, content]) : [];
}

async function both<T>(reply: Promise<T>, answer: string): Promise<[T, string[][]]> {
  return Promise.all([reply, playNext(answer)]);
}

describe.each([
  ["7", OpenAI],
  ["6", OpenAI6],
])("openai %s", (_, major) => {
  let openai: OpenAI;
  beforeEach(() => {
    openai = openaiOf(tenant, major);
  });

  test("a chat continues with the message that it answered with", async () => {
    const messages: OpenAI.ChatCompletionMessageParam[] = [{ role: "user", content: "France?" }];
    const ask = () => openai.chat.completions.create({ model: card.id, messages });
    const [first] = await both(ask(), "Paris");
    messages.push(first.choices[0]!.message, { role: "user", content: "Spain?" });
    const [, read] = await both(ask(), "Madrid");
    expect(read).toEqual([
      ["user", "France?"],
      ["assistant", "Paris"],
      ["user", "Spain?"],
    ]);
  });

  test("a chat continues with a parsed message, and with the final message of a stream", async () => {
    const messages: OpenAI.ChatCompletionMessageParam[] = [{ role: "user", content: "France?" }];
    const schema = { type: "object", properties: { city: { type: "string" } } };
    const response_format = {
      type: "json_schema" as const,
      json_schema: { name: "answer", schema, strict: true },
    };
    const parse = openai.chat.completions.parse({ model: card.id, messages, response_format });
    const [parsed] = await both(parse, '{"city":"Paris"}');
    messages.push(parsed.choices[0]!.message, { role: "user", content: "Spain?" });
    const stream = openai.chat.completions.stream({ model: card.id, messages });
    const [final] = await both(stream.finalMessage(), "Madrid");
    messages.push(final, { role: "user", content: "Italy?" });
    const [, read] = await both(
      openai.chat.completions.create({ model: card.id, messages }),
      "Rome",
    );
    expect(read.map(([, text]) => text)).toEqual([
      "France?",
      '{"city":"Paris"}',
      "Spain?",
      "Madrid",
      "Italy?",
    ]);
  });

  test("a response continues with the output, with listed input items, and with references to both", async () => {
    const respond = (input: unknown[]) =>
      openai.responses.create({ model: card.id, input: input as OpenAI.Responses.ResponseInput });
    const user = (content: string) => ({ role: "user", content });
    const [first] = await both(respond([user("France?")]), "Paris");
    const [second] = await both(
      respond([user("France?"), ...first.output, user("Spain?")]),
      "Madrid",
    );
    const listed = await Array.fromAsync(
      openai.responses.inputItems.list(second.id, { order: "asc" }),
    );
    const [, dumped] = await both(respond([...listed, ...second.output, user("Italy?")]), "Rome");
    const referenceTo = ({ id }: { id?: string | null }) => ({ type: "item_reference", id });
    const references = [...listed, ...second.output].map((item) =>
      referenceTo(item as { id?: string }),
    );
    const reasoning = { type: "reasoning", id: "rs_1", summary: [], encrypted_content: null };
    const [, referred] = await both(respond([...references, reasoning, user("Italy?")]), "Rome");
    expect(dumped).toEqual([
      ["user", "France?"],
      ["assistant", "Paris"],
      ["user", "Spain?"],
      ["assistant", "Madrid"],
      ["user", "Italy?"],
    ]);
    expect(referred).toEqual(dumped);
  });
});

test("parts and messages of other servers may have further members", async () => {
  const cache_control = { type: "ephemeral" };
  const messages = [
    { role: "system", content: [{ type: "text", text: "Be brief", cache_control }] },
    { role: "user", content: [{ type: "text", text: "Hi", role: "user", annotations: [] }] },
    { role: "assistant", content: null, refusal: "I cannot", tool_calls: null, audio: null },
    { role: "assistant", content: [{ type: "refusal", refusal: "No" }], reasoning_content: "Hm" },
    { role: "assistant", content: "", refusal: "Never" },
    { role: "user", content: "Why?", cache_control },
  ];
  const { id } = await tenant.submit({ prompt: undefined, messages });
  const { input } = (await store.record(id))!.generation;
  expect(input.kind === "chat" && input.messages.map(({ content }) => content)).toEqual([
    "Be brief",
    "Hi",
    "I cannot",
    "No",
    "Never",
    "Why?",
  ]);
});

test("a message that asks for what is not served is refused by name", async () => {
  const call = { id: "c", type: "function", function: { name: "f", arguments: "{}" } };
  const messages = [{ role: "assistant", content: "", function_call: call.function }];
  const reply = await tenant.post("/v1/jobs", { model: card.id, messages });
  expect(await errorOf(reply)).toMatchObject({ status: 400, param: "messages.0.function_call" });
});

describe("a reference", () => {
  const refer = async (id: string) => {
    const input = [
      { type: "item_reference", id },
      { role: "user", content: "x" },
    ];
    return errorOf(await tenant.post("/v1/responses", { model: card.id, input }));
  };

  test("to an item of another tenant, or that is not there, is not found", async () => {
    const stranger = await newTenant();
    const { id } = await stranger.submit();
    await play(id, ["Secret"]);
    for (const name of [
      id.replace("job_", "msg_"),
      `${id.replace("job_", "msg_")}-in-0`,
      "msg_no",
    ]) {
      expect(await refer(name)).toMatchObject({ status: 404, param: "input.0.id" });
    }
  });

  test("to an output that is not finished is refused", async () => {
    const { id } = await tenant.submit();
    const error = await refer(id.replace("job_", "msg_"));
    expect(error).toMatchObject({ status: 400, param: "input.0.id" });
    expect(error.message).toMatch("has not ended yet");
  });

  test("to input items names at most four responses", async () => {
    const jobs = await Promise.all(Array.from({ length: 5 }, () => tenant.submit()));
    const input = jobs.map(({ id }) => ({
      type: "item_reference",
      id: `${id.replace("job_", "msg_")}-in-0`,
    }));
    const reply = await tenant.post("/v1/responses", { model: card.id, input });
    expect((await errorOf(reply)).message).toMatch("at most 4 responses");
  });
});
