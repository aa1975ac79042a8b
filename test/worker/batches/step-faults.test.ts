/** Steps that throw: an outage is waited out, and a bug ends the batch. The test takes the place of the batch queue. */
import { UnrecoverableError } from "bullmq";
import { expect, test } from "vitest";
import { fileRoomKey, OPEN_BATCHES_KEY } from "../../../shared/redis/keys.ts";
import { BucketError } from "../../../shared/files/bucket.ts";
import { giveUpBatch } from "../../../worker/batches/give-up.ts";
import {
  clearFaults,
  FAULTS_MAX,
  isOutage,
  LOSSES_MAX,
  recordFault,
  recordLoss,
  type BatchJobData,
} from "../../../worker/batches/step-faults.ts";
import { stepBatch, type BatchStepDeps } from "../../../worker/batches/step.ts";
import {
  createBatch,
  deps,
  lines,
  play,
  queued,
  redis,
  results,
  run,
  step,
  view,
} from "./harness.ts";

const bug = new TypeError("Cannot read properties of undefined");
const full = Object.assign(new Error("OOM command not allowed when used memory > 'maxmemory'."), {
  name: "ReplyError",
});

class QueueJob {
  data: BatchJobData;
  stalledCounter = 0;
  constructor(id: string) {
    this.data = { id };
  }
  async updateData(data: BatchJobData): Promise<void> {
    this.data = data;
  }
}

/** Does a step as the consumer does. @returns the error that the queue would get, or null */
async function stepFromQueue(queueJob: QueueJob, broken: Partial<BatchStepDeps>): Promise<unknown> {
  try {
    const isNextLineLost = await recordLoss(queueJob);
    await stepBatch({ ...deps, ...broken }, queueJob.data.id, isNextLineLost).catch(
      async (error: unknown) => {
        await recordFault(deps.batches, (id) => giveUpBatch(deps, id), queueJob, error);
        throw error;
      },
    );
    await clearFaults(queueJob);
    return null;
  } catch (error) {
    return error;
  }
}

const throwing = (error: Error) => ({
  keys: { get: () => Promise.reject(error) } as unknown as BatchStepDeps["keys"],
});

test("a bug in the steps of a batch ends it as failed, with an error", async () => {
  const { id } = await createBatch(lines(2));
  await step(id);
  const queueJob = new QueueJob(id);
  for (let i = 0; i < FAULTS_MAX; i++) {
    expect(await view(id)).toMatchObject({ status: "in_progress" });
    expect(await stepFromQueue(queueJob, throwing(bug))).toBe(bug);
  }
  expect(await stepFromQueue(queueJob, throwing(bug))).toBeNull();
  expect(queueJob.data.faults).toBeUndefined();
  expect(await run(id)).toMatchObject({
    status: "failed",
    errors: { data: [{ code: "internal" }] },
  });
});

test("a batch that cannot even be ended in the usual way does not stay open, and nothing of it remains", async () => {
  const { id, tenant } = await createBatch(lines(3));
  await run(id);
  await play(queued[0]!);
  await run(id);
  expect(await results(id, "output")).toHaveLength(1);
  const queueJob = new QueueJob(id);
  const broken = {
    ...throwing(bug),
    readJob: () => Promise.reject(bug),
    publisher: { ...deps.publisher, publishBatchEnd: () => Promise.reject(bug) },
  };
  for (let i = 0; i < 2 * FAULTS_MAX; i++) await stepFromQueue(queueJob, broken);
  expect(await view(id)).toMatchObject({ status: "failed", output_file_id: null });
  expect(await results(id, "output")).toEqual([]);
  expect(await redis.hget(fileRoomKey(tenant), "batch_output")).toBe("0");
  for (const jobId of queued.slice(1))
    expect(await deps.store.record(jobId)).toMatchObject({ state: "cancelled" });
  expect(await redis.smembers(OPEN_BATCHES_KEY)).toEqual([]);
  let last: unknown;
  for (let i = 0; i < FAULTS_MAX; i++) last = await stepFromQueue(queueJob, broken);
  expect(last).toBeInstanceOf(UnrecoverableError);
});

test("a line whose steps are lost again and again fails alone; others are not counted against it", async () => {
  const { id } = await createBatch(lines(2));
  await step(id);
  const queueJob = new QueueJob(id);
  const lose = async () => {
    queueJob.stalledCounter++;
    return recordLoss(queueJob);
  };
  for (let i = 1; i < LOSSES_MAX; i++) expect(await lose()).toBe(false);
  await clearFaults(queueJob);
  expect(await recordLoss(queueJob)).toBe(false);
  for (let i = 1; i < LOSSES_MAX; i++) expect(await lose()).toBe(false);
  queueJob.stalledCounter++;
  expect(await stepFromQueue(queueJob, {})).toBeNull();
  expect(queueJob.data.losses).toBeUndefined();
  expect(await results(id, "error")).toMatchObject([
    { custom_id: "line-1", response: { status_code: 500, body: { error: { code: "internal" } } } },
  ]);
  expect(await view(id)).toMatchObject({ request_counts: { failed: 1 } });
  expect(queued).toHaveLength(1);
});

test("an outage, however long, fails no batch, and faults count only in a row", async () => {
  const { id } = await createBatch(lines(2));
  await step(id);
  const queueJob = new QueueJob(id);
  for (const error of [full, new BucketError("503")]) {
    expect(isOutage(error)).toBe(true);
    for (let i = 0; i < 4 * FAULTS_MAX; i++) await stepFromQueue(queueJob, throwing(error));
  }
  for (let i = 1; i < 4 * FAULTS_MAX; i++) {
    await stepFromQueue(queueJob, i % (FAULTS_MAX - 1) === 0 ? {} : throwing(bug));
  }
  expect(await view(id)).toMatchObject({ status: "in_progress" });
});
