/** The queries that official clients and EventSources send. */
import OpenAI6 from "openai-6";
import OpenAI from "openai";
import { expect, test } from "vitest";
import { MODELS_KEY } from "../../../shared/redis/keys.ts";
import { anthropicOf, card, errorOf, newTenant, openaiOf, play, redis } from "../harness.ts";

const idsOf = (models: readonly { readonly id: string }[]) => models.map(({ id }) => id);

test("Anthropic's client lists models in pages, forward and backward", async () => {
  const all = ["page-a", "page-b", "page-c"];
  const tenant = await newTenant({ limits: { models: all } });
  const { models } = anthropicOf(tenant);
  await redis.hset(
    MODELS_KEY,
    all.flatMap((id) => [id, JSON.stringify({ ...card, id })]),
  );
  expect(idsOf((await models.list()).data)).toEqual(all);
  expect(idsOf(await Array.fromAsync(models.list({ limit: 2 })))).toEqual(all);
  const first = await models.list({ limit: 2 });
  expect(first).toMatchObject({ first_id: "page-a", last_id: "page-b", has_more: true });
  const last = await models.list({ limit: 1000, after_id: "page-b" });
  expect([idsOf(last.data), last.has_more]).toEqual([["page-c"], false]);
  const before = await models.list({ limit: 1, before_id: "page-c" });
  expect([idsOf(before.data), before.has_more]).toEqual([["page-b"], true]);
  expect(idsOf((await before.getNextPage()).data)).toEqual(["page-a"]);
  expect(idsOf((await models.list({ lifecycle: ["active", "retired"] })).data)).toEqual(all);
  expect((await models.list({ lifecycle: ["retired"] })).data).toEqual([]);
});

test.each([
  ["limit=1001", "limit"],
  ["limit=0", "limit"],
  ["after_id=none", "after_id"],
  ["before_id=none", "before_id"],
  ["lifecycle[]=new", "lifecycle.0"],
])("GET /v1/models?%s is refused", async (query, param) => {
  const tenant = await newTenant();
  expect(await errorOf(await tenant.get(`/v1/models?${query}`))).toMatchObject({
    status: 400,
    code: "invalid_request",
    param,
  });
});

test.each([OpenAI, OpenAI6])("OpenAI's client reads a response with `include`", async (major) => {
  const tenant = await newTenant();
  const { responses } = openaiOf(tenant, major);
  const request = { model: card.id, input: "Hi", background: true, store: true };
  const { id } = await responses.create(request);
  const include: OpenAI.Responses.ResponseIncludable[] = [
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
  ];
  expect((await responses.retrieve(id, { include })).status).toBe("queued");
  const { data } = await responses.inputItems.list(id, { include, order: "asc", limit: 5 });
  expect(data).toHaveLength(1);
  await play(await tenant.queuedJob(), ["Hel", "lo"]);
  const query = { include, include_obfuscation: false, stream: true, starting_after: 2 } as const;
  const events = await Array.fromAsync(await responses.retrieve(id, query));
  expect([events[0]?.sequence_number, events.at(-1)?.type]).toEqual([3, "response.completed"]);
  const padded = { ...query, include_obfuscation: true };
  const sizes = (await Array.fromAsync(await responses.retrieve(id, padded)))
    .filter((event) => event.type === "response.output_text.delta")
    .map((event) => [event.delta, JSON.stringify(event).length % 64]);
  expect(sizes).toEqual([
    ["Hel", 0],
    ["lo", 0],
  ]);
  const reply = await tenant.get(`/v1/responses/${id}?include=nothing`);
  expect(await errorOf(reply)).toMatchObject({ code: "invalid_request", param: "include.0" });
});

test.each(["chat", "completions"] as const)(
  "chunks of %s with text can be padded",
  async (kind) => {
    const tenant = await newTenant();
    const { chat, completions } = openaiOf(tenant);
    const options = {
      model: card.id,
      stream: true,
      stream_options: { include_obfuscation: true, include_usage: true },
    } as const;
    const [stream] = await Promise.all([
      kind === "chat"
        ? chat.completions.create({ ...options, messages: [{ role: "user", content: "Hi" }] })
        : completions.create({ ...options, prompt: "Hi" }),
      tenant.playNext(["Hel", "lo"]),
    ]);
    const chunks: object[] = [];
    for await (const chunk of stream) chunks.push(chunk);
    const ofText = chunks.filter((chunk) => "obfuscation" in chunk);
    expect(ofText).toHaveLength(chunks.length - 1);
    expect(new Set(ofText.map((chunk) => JSON.stringify(chunk).length % 64))).toEqual(new Set([0]));
  },
);

test("OpenAI's client lists batches, files, chats and webhook endpoints in pages", async () => {
  const tenant = await newTenant();
  const openai = openaiOf(tenant);
  const page = { limit: 1 } as const;
  const lists = await Promise.all([
    openai.batches.list(page),
    openai.files.list({ limit: 10_000, order: "asc", purpose: "batch" }),
    openai.chat.completions.list({ ...page, order: "asc", model: card.id, metadata: { run: "7" } }),
    openai.get<{ readonly data: unknown[] }>("/webhook_endpoints", { query: page }),
  ]);
  for (const { data } of lists) expect(data).toEqual([]);
});

test("an EventSource without headers continues after `lastEventId`, which it adds to its first query", async () => {
  const tenant = await newTenant();
  const { id } = await tenant.submit();
  await play(id, ["Hel", "lo"]);
  for (const path of [`/v1/jobs/${id}/events?`, `/v1/chat/completions/${id}?stream=true`]) {
    const rest = await (await tenant.get(`${path}&after=1&lastEventId=3`)).text();
    expect(rest).toMatch(/^id: 4\n/);
    expect((await tenant.get(`${path}&after=1&lastEventId=5`)).status).toBe(204);
  }
  const path = `/v1/responses/${id.replace("job_", "resp_")}?stream=true&lastEventId=`;
  const events = await (await tenant.get(`${path}1`)).text();
  const last = /.*^id: (\d+)/ms.exec(events)?.[1];
  expect((await tenant.get(path + last)).status).toBe(204);
  expect(await errorOf(await tenant.get(`${path}x`))).toMatchObject({ param: "lastEventId" });
});
