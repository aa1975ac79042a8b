/** A file that is too large for Redis: through the edge into a real S3-compatible bucket, and from there to the workers. */
import OpenAI, { toFile } from "openai";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startEdge, type EdgeProcess } from "../../infra/stack/edge.ts";
import { LIMITS } from "../../shared/api/limits.ts";
import { contentKey } from "../../shared/redis/keys.ts";
import { startS3, type S3 } from "../support/s3.ts";
import { countingFrom, DEADLINE_MS, useStack } from "./stack.ts";

const stack = useStack(null);
let s3: S3;
let edge: EdgeProcess;
let openai: OpenAI;
beforeAll(async () => {
  s3 = await startS3();
  edge = await startEdge({ redisUrl: stack.redisServer.url, env: s3.env });
  openai = new OpenAI({ apiKey: stack.key.key, baseURL: `${edge.url}/v1`, maxRetries: 0 });
});
afterAll(() => s3.stop());

const body = { model: "atlas-qa", prompt: "the capital of france", max_tokens: 4, seed: 1 };
const line = (custom_id: string, changes: object = {}) =>
  JSON.stringify({
    custom_id,
    method: "POST",
    url: "/v1/completions",
    body: { ...body, ...changes },
  });

test("a large file is read back unchanged, its lines have results, and deleting it removes it from the bucket", async () => {
  // Invalid requests, so that no model has to process these long prompts.
  const invalid = { prompt: "x ".repeat(200_000), temperature: 3 };
  const long = countingFrom(1, 25).map((i) => line(`long-${i}`, invalid));
  const text = [line("first"), ...long, line("last")].join("\n");
  expect(text.length).toBeGreaterThan(LIMITS.fileInRedisBytesMax);
  const file = await openai.files.create({
    file: await toFile(Buffer.from(text), "in.jsonl"),
    purpose: "batch",
  });
  expect(file.bytes).toBe(text.length);
  expect(await stack.redis.exists(contentKey(file.id))).toBe(0);
  expect(await (await openai.files.content(file.id)).text()).toBe(text);

  const worker = await stack.startWorker(s3.env);
  const { id } = await openai.batches.create({
    input_file_id: file.id,
    endpoint: "/v1/completions",
    completion_window: "24h",
  });
  const ended = async () => (await openai.batches.retrieve(id)).status === "completed";
  await expect.poll(ended, { timeout: DEADLINE_MS }).toBe(true);
  expect((await openai.batches.retrieve(id)).request_counts).toEqual({
    total: 27,
    completed: 2,
    failed: 25,
  });
  await worker.stop();

  await openai.files.delete(file.id);
  await expect(openai.files.content(file.id)).rejects.toMatchObject({ status: 404 });
});
