/** The bound of a prompt's bytes, which is checked before anything is tokenized. */
import { beforeAll, describe, expect, test } from "vitest";
import { MODELS_KEY } from "../../../shared/redis/keys.ts";
import { card, errorOf, newTenant, redis, type Client } from "../harness.ts";

let client: Client;
beforeAll(async () => {
  client = await newTenant();
});

describe("a text that cannot fit the context is refused before it is tokenized", () => {
  // 32 tokens of at most 2 bytes.
  const narrow = { ...card, id: "narrow", tokenBytesMax: 2 };
  beforeAll(() => redis.hset(MODELS_KEY, narrow.id, JSON.stringify(narrow)));
  const long = "x".repeat(65);
  const message = (field: string) =>
    `This model's maximum context length is 32 tokens. However, your ${field} ${field === "messages" ? "have" : "has"} at least 65 bytes, and that many tokens hold at most 64.`;

  test.each<[string, string, object]>([
    ["/v1/jobs", "prompt", { prompt: long }],
    ["/v1/jobs", "messages", { messages: [{ role: "user", content: long }] }],
    ["/v1/score", "completion", { prompt: "x", completion: long }],
  ])("%s, %s", async (path, param, fields) => {
    const error = await errorOf(await client.post(path, { model: narrow.id, ...fields }));
    expect(error).toMatchObject({
      code: "context_length_exceeded",
      param,
      message: message(param),
    });
  });

  test.each<[string, object]>([
    ["the spaces around it, which templates drop", { content: `${" ".repeat(99)}x\n` }],
    ["answers and system messages, which templates drop", { role: "system", content: long }],
    ["exactly as many bytes", { content: "x".repeat(64) }],
  ])("but not for %s", async (_, fields) => {
    const messages = [
      { role: "user", ...fields },
      { role: "user", content: "" },
    ];
    const reply = await client.post("/v1/jobs", { model: narrow.id, messages });
    expect(reply.status).toBe(202);
  });
});
