/** A generating process that hangs but lives: it is killed and replaced, and its jobs are continued. */
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { beforeAll, expect, test } from "vitest";
import type { WorkerProcess } from "../../infra/stack/worker.ts";
import { HANG_SEED } from "../support/hang.ts";
import {
  allEvents,
  countingFrom,
  runToEnd,
  LONG_JOB,
  EventReader,
  generatingPids,
  seqOf,
  textOf,
  useStack,
} from "./stack.ts";

const stack = useStack(null);
const HANG = pathToFileURL(join(import.meta.dirname, "../support/hang.ts")).href;
const JOB = { ...LONG_JOB, max_tokens: 400 };
let worker: WorkerProcess;
beforeAll(async () => {
  worker = await stack.startWorker({
    HANG_SECONDS: "5",
    LOCK_MS: "2000",
    ATTEMPTS_MAX: "1",
    NODE_OPTIONS: `--import=${HANG}`,
  });
});

async function expectUndisturbed(reader: EventReader): Promise<void> {
  const events = await reader.ended;
  expect(seqOf(events)).toEqual(countingFrom(1, events.length));
  expect(textOf(events)).toBe((await runToEnd(stack.client, JOB)).output.text);
}

test("a generating process that is stopped is replaced, and its job continues", async () => {
  const { id } = await stack.client.submit(JOB);
  const reader = new EventReader(stack.client, id);
  await reader.hasTokens(20);
  const [stopped] = generatingPids(worker);
  process.kill(stopped!, "SIGSTOP");
  await expectUndisturbed(reader);
  expect(generatingPids(worker)).not.toContain(stopped);
  expect(worker.child.output).toContain("The generating process does not answer: it is killed");
});

test("when the engine makes no step, the log says where its jobs stand, others continue, and the one that hangs it fails", async () => {
  const { id } = await stack.client.submit(JOB);
  const reader = new EventReader(stack.client, id);
  await reader.hasTokens(20);
  const hanging = await stack.client.submit({ ...JOB, seed: HANG_SEED });
  await expectUndisturbed(reader);
  const end = (await allEvents(stack.client, hanging.id)).at(-1);
  expect(end).toMatchObject({ type: "failed", error: { code: "worker_lost" } });
  expect(worker.child.output).toContain("makes no progress");
  const line = worker.child.output.split("\n").find((text) => text.includes("makes no progress"));
  expect(JSON.parse(line!)).toMatchObject({
    thread: "engine",
    jobs: [
      { job: id, attempt: 1, phase: "decode", tokens: expect.any(Number) },
      { job: hanging.id, attempt: 1, phase: "loading", tokens: 0 },
    ],
  });
});
