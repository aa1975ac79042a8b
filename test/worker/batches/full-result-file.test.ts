/** Batches whose results are longer than Redis can store. The tests lower the limit of their Redis. */
import { expect, test } from "vitest";
import { resultFileId } from "../../../shared/batches/store.ts";
import { PART_BYTES, type Bucket } from "../../../shared/files/bucket.ts";
import { BatchResultFiles } from "../../../worker/batches/result-files.ts";
import { stepBatch } from "../../../worker/batches/step.ts";
import {
  createBatch,
  deps,
  lines,
  play,
  published,
  queued,
  redis,
  results,
  run,
  view,
} from "./harness.ts";

/** Sets the length that Redis allows for strings, and so for result files in Redis. */
const setStringBytesMax = (bytes: number) => redis.config("SET", "proto-max-bulk-len", bytes);
const STRING_BYTES_MAX = 512 * 2 ** 20;

test("a batch whose results do not fit into a file in Redis fails, with the results so far", async () => {
  await setStringBytesMax(2 ** 20);
  const { id } = await createBatch(lines(5));
  await run(id);
  for (const jobId of queued) await play(jobId, "succeeded", "a".repeat(400_000));
  const ended = await run(id);
  await setStringBytesMax(STRING_BYTES_MAX);
  expect(ended).toMatchObject({
    status: "failed",
    errors: { data: [{ code: "result_file_full" }] },
    request_counts: { total: 5, completed: 2, failed: 0 },
    output_file_id: resultFileId(id, "output"),
  });
  expect(published).toEqual([ended]);
  expect(await results(id, "output")).toHaveLength(2);
});

test("a batch that was cancelled ends even if its results do not fit", async () => {
  await setStringBytesMax(2 ** 20);
  const { id } = await createBatch(lines(5));
  await run(id);
  for (const jobId of queued) await play(jobId, "succeeded", "a".repeat(400_000));
  await deps.batches.cancel(id);
  const ended = await run(id);
  await setStringBytesMax(STRING_BYTES_MAX);
  expect(ended).toMatchObject({ status: "failed", request_counts: { completed: 2 } });
});

test("with a bucket the results of one step may be longer than Redis can store", async () => {
  await setStringBytesMax(PART_BYTES + 5 * 2 ** 20);
  const bucket = {
    begin: async () => "upload",
    part: async (_: string, __: string, partNumber: number) => ({ partNumber, etag: "etag" }),
    complete: async () => {},
  } as unknown as Bucket;
  const { batches, files } = deps;
  const resultFiles = new BatchResultFiles({ redis, batches, files, bucket });
  const { id, tenant } = await createBatch(lines(3));
  await run(id);
  for (const jobId of queued) await play(jobId, "succeeded", "a".repeat(4.5 * 2 ** 20));
  while (await stepBatch({ ...deps, resultFiles }, id));
  await setStringBytesMax(STRING_BYTES_MAX);
  expect(await view(id)).toMatchObject({ status: "completed", request_counts: { completed: 3 } });
  expect((await files.list(tenant))[0]!.bytes).toBeGreaterThan(13.5 * 2 ** 20);
});
