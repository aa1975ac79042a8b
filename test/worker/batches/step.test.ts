/** A batch step by step on a real Redis. The test ends the jobs itself, to reach cases that real workers reach rarely. */
import { expect, test, vi } from "vitest";
import type { BatchResult } from "../../../shared/api/batches.ts";
import { FairQueue } from "../../../shared/queue/fair-queue.ts";
import { resultFileId } from "../../../shared/batches/store.ts";
import { NEVER_RAN } from "../../../shared/jobs/store.ts";
import { batchKey, MODELS_KEY } from "../../../shared/redis/keys.ts";
import { sendHeartbeat } from "../../../shared/workers/registry.ts";
import { NewerRecord } from "../../../shared/redis/version.ts";
import { stepBatch } from "../../../worker/batches/step.ts";
import {
  card,
  CHAT,
  createBatch,
  deps,
  lines,
  named,
  play,
  published,
  queued,
  redis,
  results,
  run,
  step,
  view,
} from "./harness.ts";
import { claimJob } from "../../support/claim.ts";

test("a limited number of lines is open at once, behind the requests of others, and the counts advance", async () => {
  const { id, tenant } = await createBatch(lines(5));
  expect(await view(id)).toMatchObject({ status: "validating", request_counts: { total: 0 } });
  expect(await run(id)).toMatchObject({ status: "in_progress", request_counts: { total: 5 } });
  expect(queued).toHaveLength(3);
  expect(await new FairQueue(redis).workAheadOfNewJob("demo", tenant, 0)).toEqual({
    jobs: 0,
    tokens: 0,
  });
  await play(queued[1]!);
  expect(await run(id)).toMatchObject({ request_counts: { completed: 1 } });
  expect(queued).toHaveLength(4);
  for (const jobId of [queued[0]!, queued[2]!, queued[3]!]) await play(jobId);
  await run(id);
  await play(queued[4]!);
  const ended = await run(id);
  expect(ended).toMatchObject({
    status: "completed",
    request_counts: { total: 5, completed: 5, failed: 0 },
    usage: { input_tokens: 10, output_tokens: 15, total_tokens: 25 },
    error_file_id: null,
  });
  expect(published).toEqual([ended]);
  const output = await results(id, "output");
  expect(named(output)).toHaveLength(5);
  expect(new Set(named(output)).size).toBe(5);
});

test("a batch waits until a model is known: before, every line would fail", async () => {
  await redis.del(MODELS_KEY);
  const { id } = await createBatch(lines(2));
  expect(await run(id)).toMatchObject({ status: "in_progress", request_counts: { failed: 0 } });
  expect(queued).toEqual([]);
  await redis.hset(MODELS_KEY, card.id, JSON.stringify(card));
  await run(id);
  expect(queued).toHaveLength(2);
});

test.each([
  ["/v1/chat/completions", { choices: [{ message: { content: "Hello" } }] }],
  ["/v1/completions", { choices: [{ text: "Hello" }] }],
  ["/v1/responses", { object: "response", status: "completed" }],
] as const)("a line of %s has a result in that protocol's format", async (endpoint, body) => {
  const { id } = await createBatch(lines(1, endpoint), { endpoint });
  await run(id);
  await play(queued[0]!);
  expect((await run(id)).status).toBe("completed");
  expect(await results(id, "output")).toMatchObject([
    {
      custom_id: "line-1",
      response: { status_code: 200, request_id: queued[0], body },
      error: null,
    },
  ]);
});

test("a line with several choices has one result, once all of them have ended", async () => {
  const { id } = await createBatch(lines(1, CHAT, { n: 2 }));
  await run(id);
  await play(queued[0]!);
  expect((await run(id)).request_counts.completed).toBe(0);
  await play(queued[1]!);
  await run(id);
  const [{ response }] = (await results(id, "output")) as [BatchResult];
  expect(response?.body).toMatchObject({ choices: [{ index: 0 }, { index: 1 }] });
});

test("steps done by several workers at once give each line one job and one result", async () => {
  const text = [lines(2), "no JSON", lines(2).replaceAll("line-", "other-")].join("\n");
  const { id } = await createBatch(text);
  for (let round = 0; round < 8; round++) {
    await Promise.all([step(id), step(id), step(id)]);
    for (const jobId of new Set(queued)) await play(jobId).catch(() => {});
  }
  const ended = await view(id);
  expect(ended.request_counts).toEqual({ total: 5, completed: 4, failed: 1 });
  expect(named(await results(id, "output")).toSorted()).toEqual([
    "line-1",
    "line-2",
    "other-1",
    "other-2",
  ]);
  expect(await results(id, "error")).toHaveLength(1);
  expect(new Set(queued).size).toBe(4);
});

test("an expired batch keeps its results and has an error for every other line", async () => {
  const { id } = await createBatch(lines(5));
  await run(id);
  await play(queued[0]!);
  await run(id);
  await redis.hset(batchKey(id), "deadlineMs", Date.now() - 1);
  const ended = await run(id);
  expect(ended).toMatchObject({
    status: "expired",
    request_counts: { total: 5, completed: 1, failed: 4 },
    expired_at: expect.any(Number),
  });
  expect(named(await results(id, "output"))).toEqual(["line-1"]);
  const errors = await results(id, "error");
  expect(named(errors).toSorted()).toEqual(["line-2", "line-3", "line-4", "line-5"]);
  for (const { error } of errors) expect(error).toMatchObject({ code: "batch_expired" });
  for (const jobId of queued.slice(1)) {
    expect((await deps.store.record(jobId))?.state).toBe("cancelled");
  }
});

test("a cancelled batch waits for its running jobs and keeps their results", async () => {
  const { id } = await createBatch(lines(2));
  await run(id);
  const { attempt } = await claimJob(redis, queued[0]!);
  await deps.batches.cancel(id);
  expect(await run(id)).toMatchObject({ status: "cancelling", request_counts: { failed: 1 } });
  const outcome = { ...NEVER_RAN, finish_reason: "stop" } as const;
  await deps.store.finish(queued[0]!, attempt, "succeeded", "Hello", outcome);
  expect(await run(id)).toMatchObject({
    status: "cancelled",
    request_counts: { total: 2, completed: 1, failed: 1 },
  });
});

test("a line waits while its key's limits have no room, and uses nothing of the limits of other requests", async () => {
  const { id, keyId } = await createBatch(lines(3), { limits: { concurrent_jobs: 1 } });
  await run(id);
  expect(queued).toHaveLength(1);
  expect(await redis.scard(`{trimtab}:key-jobs:${keyId}`)).toBe(0);
  for (let i = 0; i < 3; i++) {
    await play(queued[i]!);
    await run(id);
  }
  expect((await view(id)).request_counts).toEqual({ total: 3, completed: 3, failed: 0 });
});

test("a line that exceeds its key's limits fails; the others do not", async () => {
  const large = lines(1, CHAT, { max_tokens: 90 });
  const { id } = await createBatch(
    `${large}\n${lines(1, CHAT, { max_tokens: 5 }).replace("line-1", "ok")}`,
    {
      limits: { tokens_per_minute: 50 },
    },
  );
  await run(id);
  expect(named(await results(id, "error"))).toEqual(["line-1"]);
  expect(queued).toHaveLength(1);
});

test("revoking the key cancels its batch", async () => {
  const { id, keyId } = await createBatch(lines(5));
  await run(id);
  await deps.keys.revoke(keyId);
  expect(await run(id)).toMatchObject({
    status: "cancelled",
    request_counts: { total: 5, completed: 0, failed: 5 },
  });
});

test("each line ends by itself, whatever it holds", async () => {
  const line = (name: string, body: string) =>
    `{"custom_id":"${name}","method":"POST","url":"${CHAT}","body":{"model":"demo","messages":[{"role":"user","content":"Hi"}],${body}}}`;
  const schema = (text: string) =>
    `"response_format":{"type":"json_schema","json_schema":{"name":"t","schema":${text}}}`;
  const nested = (times: number) => `${'{"items":'.repeat(times)}{}${"}".repeat(times)}`;
  const poison = [
    line("deep schema", schema(nested(7_000))),
    line("deep metadata", `"metadata":{"a":${"[".repeat(100_000)}${"]".repeat(100_000)}}`),
    line("unclosed", `"metadata":${"[".repeat(100_000)}`),
    line("costly pattern", schema('{"type":"string","pattern":"([ab]{0,63}|[bc]{0,63}){0,63}"}')),
    line("endless reference", schema('{"$ref":"#"}')),
    line("prototype", '"metadata":{"__proto__":{"a":1},"constructor":2}'),
    line("lone surrogate", `${schema('{"const":"\\ud800"}')},"stop":["\\ud800"]`),
    "7",
    '"custom_id"',
  ];
  const { id } = await createBatch([...poison, lines(1)].join("\n"));
  await run(id);
  for (const jobId of queued) await play(jobId);
  const ended = await run(id);
  expect(ended.request_counts.total).toBe(poison.length + 1);
  expect(ended.status).toBe("completed");
  expect(named(await results(id, "output"))).toContain("line-1");
  for (const { response } of await results(id, "error")) {
    expect(response?.status_code).toBe(400);
  }
});

test("a line that no worker has memory for fails; a shorter one runs", async () => {
  const throughput = {
    slots: 8,
    busy: 0,
    tokensPerSecond: null,
    tokensMean: null,
    costShare: null,
    tokensVariation: null,
  };
  const bounded = { ...card, jobTokensMax: { steered: 16, base: 16 } };
  await sendHeartbeat(redis, "a", { version: "1", throughput, models: [bounded] }, [bounded]);
  const { id } = await createBatch(
    `${lines(1, CHAT, { max_tokens: 17 })}\n${lines(1, CHAT, { max_tokens: 8 }).replace("line-1", "line-2")}`,
  );
  await run(id);
  expect(queued).toHaveLength(1);
  expect(await results(id, "error")).toMatchObject([
    {
      custom_id: "line-1",
      response: {
        status_code: 400,
        body: { error: { code: "context_length_exceeded", param: "max_tokens" } },
      },
    },
  ]);
});

test("a line that makes the server fail gets an internal error, and the next lines run", async () => {
  const { id } = await createBatch(`${lines(1)}\n${lines(1).replace("line-1", "line-2")}`);
  const { requestContext } = deps;
  const model = vi.fn((id: string) => requestContext.models.model(id));
  const models = { ...requestContext.models, model };
  // A failure of Redis is tried again; an error that the line itself causes is not.
  model.mockRejectedValueOnce(new Error("Connection is closed."));
  model.mockRejectedValueOnce(new RangeError("Maximum call stack size exceeded"));
  const failing = { ...deps, requestContext: { ...requestContext, models } };
  await stepBatch(failing, id);
  await expect(stepBatch(failing, id)).rejects.toThrow("closed");
  await stepBatch(failing, id);
  expect(queued).toHaveLength(1);
  expect(await results(id, "error")).toMatchObject([
    { custom_id: "line-1", response: { status_code: 500, body: { error: { code: "internal" } } } },
  ]);
});

test("a line whose job was deleted fails", async () => {
  const { id } = await createBatch(lines(1));
  await run(id);
  await deps.store.delete(queued[0]!);
  expect(await run(id)).toMatchObject({ status: "completed", request_counts: { failed: 1 } });
  expect(await results(id, "error")).toMatchObject([
    { custom_id: "line-1", response: { status_code: 404, body: { error: { code: "not_found" } } } },
  ]);
});

test.each([
  ["\n \n", "invalid_line_count"],
  ["{}\n".repeat(50_001), "invalid_line_count"],
])("a file without lines, or with too many, fails the whole batch", async (text, code) => {
  const { id } = await createBatch(text);
  const ended = await run(id);
  expect(ended).toMatchObject({ status: "failed", errors: { data: [{ code }] } });
  expect(ended.output_file_id).toBeNull();
});

test("deleting the input file ends the batch, with the results so far", async () => {
  const { id, tenant } = await createBatch(lines(5));
  await run(id);
  const [file] = await deps.files.list(tenant);
  await deps.files.delete(tenant, file!);
  await play(queued[0]!);
  expect(await run(id)).toMatchObject({
    status: "failed",
    errors: { data: [{ code: "input_file_not_found" }] },
    request_counts: { completed: 1 },
    output_file_id: resultFileId(id, "output"),
  });
});

test("a line that refers to a job of a newer release is left to a worker of that release", async () => {
  const endpoint = "/v1/responses";
  const text = lines(1, endpoint, { previous_response_id: "resp_0198c2f4e5b07a31" });
  const { id } = await createBatch(text, { endpoint });
  await step(id);
  const record = () => Promise.reject(new NewerRecord("Version 9"));
  const jobs = { record } as unknown as typeof deps.requestContext.jobs;
  const older = { ...deps, requestContext: { ...deps.requestContext, jobs } };
  await expect(stepBatch(older, id)).rejects.toThrow(NewerRecord);
  expect(await view(id)).toMatchObject({ request_counts: { total: 1, failed: 0 } });
});
