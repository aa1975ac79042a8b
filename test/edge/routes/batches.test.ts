/** `/v1/batches` with the official client. test/stack/batches.test.ts runs batches to their end. */
import type OpenAI from "openai";
import { toFile } from "openai";
import { beforeEach, expect, test } from "vitest";
import { LIMITS } from "../../../shared/api/limits.ts";
import { newTenant, openaiOf, redis, type Client } from "../harness.ts";

let tenant: Client;
let openai: OpenAI;
let input_file_id: string;
beforeEach(async () => {
  tenant = await newTenant();
  openai = openaiOf(tenant);
  const file = await toFile(new TextEncoder().encode("{}\n"), "in.jsonl");
  ({ id: input_file_id } = await openai.files.create({ file, purpose: "batch" }));
});

const endpoint = "/v1/chat/completions";
const completion_window = "24h";
const create = (metadata = {}) =>
  openai.batches.create({ input_file_id, endpoint, completion_window, metadata });

test("a batch is created, queued, read, listed and cancelled", async () => {
  const batch = await create({ for: "a test" });
  expect(batch).toMatchObject({
    object: "batch",
    endpoint,
    input_file_id,
    completion_window,
    status: "validating",
    request_counts: { total: 0, completed: 0, failed: 0 },
    metadata: { for: "a test" },
  });
  expect(batch.expires_at! - batch.created_at).toBe(LIMITS.batchSeconds);
  expect(await redis.exists(`{trimtab}:batch:${batch.id}`)).toBe(1);
  expect(await openai.batches.retrieve(batch.id)).toEqual(batch);
  const second = await create();
  const first = await openai.batches.list({ limit: 1 });
  expect(first.data.map(({ id }) => id)).toEqual([second.id]);
  const all = await Array.fromAsync(first);
  expect(all.map(({ id }) => id)).toEqual([second.id, batch.id]);
  const cancelling = await openai.batches.cancel(batch.id);
  expect(cancelling).toMatchObject({ status: "cancelling", cancelling_at: expect.any(Number) });
  expect(await openai.batches.cancel(batch.id)).toEqual(cancelling);
});

test("a repeated request returns the same batch", async () => {
  const request = { input_file_id, endpoint, completion_window } as const;
  const again = { headers: { "idempotency-key": "k" } };
  const { data: first } = await openai.batches.create(request, again).withResponse();
  const { data, response } = await openai.batches.create(request, again).withResponse();
  expect(data.id).toBe(first.id);
  expect(response.headers.get("idempotent-replayed")).toBe("true");
  await expect(
    openai.batches.create({ ...request, metadata: { other: "1" } }, again),
  ).rejects.toMatchObject({ status: 422 });

  // The client sends this header when it repeats a request that got no reply.
  const retry = { headers: { "x-stainless-retry-count": "1" } };
  const { id } = await openai.batches.create({ ...request, metadata: { sent: "twice" } });
  expect((await openai.batches.create({ ...request, metadata: { sent: "twice" } }, retry)).id).toBe(
    id,
  );
  expect((await openai.batches.list()).data).toHaveLength(2);
});

test("another tenant's batch and its file are not found", async () => {
  const { id } = await create();
  const other = openaiOf(await newTenant());
  await expect(other.batches.retrieve(id)).rejects.toMatchObject({ status: 404 });
  await expect(other.batches.cancel(id)).rejects.toMatchObject({ status: 404 });
  expect((await other.batches.list()).data).toEqual([]);
  await expect(
    other.batches.create({ input_file_id, endpoint, completion_window }),
  ).rejects.toMatchObject({ status: 404, param: "input_file_id" });
});

test.each([
  ["another endpoint", { endpoint: "/v1/embeddings" }, "endpoint"],
  ["another window", { completion_window: "1h" }, "completion_window"],
  ["an empty file id", { input_file_id: "" }, "input_file_id"],
  ["an unknown field", { color: "red" }, "color"],
])("a batch with %s is refused", async (_, fields, param) => {
  const request = { input_file_id, endpoint, completion_window, ...fields };
  await expect(openai.batches.create(request as OpenAI.BatchCreateParams)).rejects.toMatchObject({
    status: 400,
    param,
  });
});

test("a tenant has a limit of batches that have not ended", async () => {
  for (let i = 0; i < LIMITS.openBatchesMax; i++) await create();
  await expect(create()).rejects.toMatchObject({ status: 400 });
});
