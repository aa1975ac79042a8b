/** Jobs that fit the KV caches of no worker are refused before they are queued. */
import { beforeAll, describe, expect, test } from "vitest";
import type { Model } from "../../../shared/api/models.ts";
import type { JobTokensMax } from "../../../shared/workers/model-card.ts";
import { removeWorker, sendHeartbeat } from "../../../shared/workers/registry.ts";
import { card, errorOf, newTenant, redis, type Client } from "../harness.ts";

const throughput = {
  slots: 8,
  busy: 0,
  tokensPerSecond: null,
  tokensMean: null,
  costShare: null,
  tokensVariation: null,
};
/** Plays a worker that serves one model with this much room. */
async function serve(worker: string, id: string, jobTokensMax?: JobTokensMax): Promise<void> {
  const model = { ...card, id, tokenBytesMax: 2, ...(jobTokensMax && { jobTokensMax }) };
  await sendHeartbeat(redis, worker, { version: "1", throughput, models: [model] }, [model]);
}

let client: Client;
beforeAll(async () => {
  client = await newTenant();
});
const ids = (count: number) => Array.from({ length: count }, () => 1);
const status = async (model: string, fields: object) =>
  (await client.post("/v1/jobs", { model, ...fields })).status;

describe("with 16 of 32 tokens", () => {
  beforeAll(() => serve("narrow", "narrow", { steered: 16, base: 24 }));
  const reason = "The KV caches of the workers hold no more.";
  const message = (problem: string) =>
    `This model's maximum context length is 16 tokens. However, ${problem}. ${reason}`;

  test.each<[string, string, object, string]>([
    [
      "/v1/jobs",
      "max_tokens",
      { prompt: ids(7), max_tokens: 10 },
      "max_tokens is 10, and the prompt has 7 tokens",
    ],
    [
      "/v1/jobs",
      "prompt",
      { prompt: ids(16) },
      "your prompt has 16 tokens, and the answer needs room as well",
    ],
    [
      "/v1/jobs/quote",
      "prompt",
      { prompt: "x".repeat(33) },
      "your prompt has at least 17 tokens, and the answer needs room as well",
    ],
    [
      "/v1/chat/completions",
      "messages",
      { messages: [{ role: "user", content: "x".repeat(33) }] },
      "your messages have at least 17 tokens, and the answer needs room as well",
    ],
    [
      "/v1/responses",
      "max_output_tokens",
      { input: "x", max_output_tokens: 16 },
      "max_output_tokens is 16, and the prompt has at least 1 tokens",
    ],
    [
      "/v1/score",
      "completion",
      { prompt: ids(8), completion: ids(9) },
      "your completion has at least 9 tokens and the prompt 8 tokens",
    ],
  ])("%s names %s", async (path, param, fields, problem) => {
    const error = await errorOf(await client.post(path, { model: "narrow", ...fields }));
    expect(error).toMatchObject({
      status: 400,
      code: "context_length_exceeded",
      param,
      message: message(problem),
    });
  });

  test.each<[string, object]>([
    ["a job that fills the room", { prompt: ids(6), max_tokens: 10 }],
    ["an output without a limit: it ends where the room does", { prompt: ids(15) }],
    ["more tokens at alpha 0", { prompt: ids(14), max_tokens: 10, steering: { alpha: 0 } }],
  ])("accepts %s", async (_, fields) => {
    expect(await status("narrow", fields)).toBe(202);
  });

  test("but not more than the base has room for", async () => {
    const fields = { prompt: ids(15), max_tokens: 10, steering: { alpha: 0 } };
    expect(await status("narrow", fields)).toBe(400);
  });
});

test("a worker with more room takes the job; without a live worker, and with an older one, nothing is refused", async () => {
  const long = { prompt: ids(20), max_tokens: 10 };
  await serve("large", "mixed", { steered: 32, base: 32 });
  await serve("small", "mixed", { steered: 16, base: 16 });
  expect(await status("mixed", long)).toBe(202);
  const model = await (await client.get("/v1/models/mixed")).json<Model>();
  expect(model).toMatchObject({ context_tokens: 32, job_tokens_max: 32 });
  await removeWorker(redis, "large");
  expect(await status("mixed", long)).toBe(400);
  await serve("older", "mixed");
  await serve("small", "mixed", { steered: 16, base: 16 });
  expect(await status("mixed", long)).toBe(202);
  await removeWorker(redis, "older");
  await removeWorker(redis, "small");
  expect(await status("mixed", long)).toBe(202);
});
