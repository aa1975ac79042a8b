/** Stored chats as OpenAI's client reads them: lists, messages, metadata. */
import { expect, test } from "vitest";
import { card, errorOf, newTenant, openaiOf, type Client } from "../harness.ts";

const messages = [
  { role: "system" as const, content: "Be brief." },
  { role: "user" as const, content: "Hello" },
];

async function chat(client: Client, text: string, fields: object = {}): Promise<string> {
  const reply = client.post("/v1/chat/completions", { model: card.id, messages, ...fields });
  for (let i = 0; i < ((fields as { n?: number }).n ?? 1); i++) await client.playNext([text]);
  return (await (await reply).json<{ id: string }>()).id;
}

test("the official client lists chats that succeeded, page by page and by metadata, without other jobs", async () => {
  const client = await newTenant();
  const { completions } = openaiOf(client).chat;
  const first = await chat(client, "One", { metadata: { run: "7" } });
  const second = await chat(client, "Two", { n: 2 });
  const third = await chat(client, "Three", { metadata: { run: "7", kind: "x" } });
  await chat(client, "Not kept", { store: false });
  await client.submit();
  const ids = async (query: object) =>
    (await Array.fromAsync(completions.list(query))).map(({ id }) => id);
  expect(await ids({ limit: 2 })).toEqual([first, second, third]);
  expect(await ids({ limit: 1, order: "desc" })).toEqual([third, second, first]);
  expect(await ids({ metadata: { run: "7" } })).toEqual([first, third]);
  expect(await ids({ metadata: { run: "7", kind: "x" }, model: card.id })).toEqual([third]);
  expect(await ids({ model: "other" })).toEqual([]);
  const page = await completions.list({ limit: 2 });
  expect(page.data[0]).toMatchObject({
    object: "chat.completion",
    metadata: { run: "7" },
    choices: [{ message: { role: "assistant", content: "One" }, finish_reason: "stop" }],
  });
  expect(page.data[1]!.choices).toHaveLength(2);
});

test("the official client reads the messages of a chat and replaces its metadata", async () => {
  const client = await newTenant();
  const { completions } = openaiOf(client).chat;
  const id = await chat(client, "One", { n: 2 });
  const read = await Array.fromAsync(completions.messages.list(id, { limit: 1 }));
  expect(read).toMatchObject(messages);
  const updated = await completions.update(id, { metadata: { reviewed: "yes" } });
  expect(updated).toMatchObject({ id, metadata: { reviewed: "yes" } });
  const found = await completions.list({ metadata: { reviewed: "yes" } });
  expect(found.data.map((one) => one.id)).toEqual([id]);
  const other = await newTenant();
  expect((await other.post(`/v1/chat/completions/${id}`, { metadata: {} })).status).toBe(404);
  const { id: job } = await client.submit();
  const unfinished = await client.post(`/v1/chat/completions/${job}`, { metadata: {} });
  expect(await errorOf(unfinished)).toMatchObject({ status: 404 });
});
