import { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { startRedis, type RedisServer } from "../../../infra/stack/redis.ts";
import type { TerminalState } from "../../../shared/api/jobs.ts";
import type { ErrorCode } from "../../../shared/api/error-codes.ts";
import type { NewJob } from "../../../shared/jobs/record.ts";
import { fenceOf } from "../../../shared/jobs/fence.ts";
import { JobLeases } from "../../../shared/jobs/leases.ts";
import { JobStore } from "../../../shared/jobs/store.ts";
import { logKey } from "../../../shared/redis/keys.ts";
import type { EngineClient } from "../../../worker/engine-client/client.ts";
import type { RunEndEvent, RunEvent, RunUsage } from "../../../worker/engine-client/messages.ts";
import { endUnrun, runJob } from "../../../worker/jobs/run-job.ts";
import { JobRun } from "../../../worker/jobs/job-run.ts";
import { claimJob } from "../../support/claim.ts";
import { generation, newJob } from "../../support/generation.ts";

type Engine = Pick<EngineClient, "run">;

const ATTEMPTS_MAX = 3;
const USED: RunUsage = {
  promptTokens: 4,
  baseCalls: 4,
  cachedTokens: 3,
  drafts: {
    expert: { drafted: 5, accepted: 2 },
    lookup: { drafted: 6, accepted: 1 },
    base: { drafted: 0, accepted: 0 },
  },
  remote: null,
};
const END: RunEndEvent = { type: "end", finish: "stop", usage: USED };
const token = (id: number): RunEvent => ({
  type: "token",
  token: id,
  text: `<${id}>`,
  baseCalls: id + 1,
});

let server: RedisServer;
let redis: Redis;
let store: JobStore;
let leases: JobLeases;

beforeAll(async () => {
  server = await startRedis();
  redis = new Redis(server.url);
  store = new JobStore(redis, 60_000);
  leases = new JobLeases(redis);
});

afterEach(() => redis.flushall());
afterAll(async () => {
  redis.disconnect();
  await server.stop();
});

/** An engine that yields these events at once, without the tokens that exist already. */
function engineOf(events: readonly RunEvent[]): Engine {
  return {
    run: async function* (_tenant, _generation, resume) {
      yield* events.slice(resume.length);
    },
  };
}

/** An engine that yields tokens until it is stopped, as the real one does. @param act called before token number `before` */
function endlessEngine(before = -1, act: () => Promise<unknown> = async () => {}): Engine {
  return {
    run: async function* (_tenant, _generation, resume, signal) {
      for (let id = resume.length; !signal.aborted; id++) {
        if (id === before) await act();
        yield token(id);
        await new Promise(setImmediate);
      }
      yield { type: "end", finish: null, usage: USED };
    },
  };
}

const noEngine: Engine = {
  // oxlint-disable-next-line require-yield
  run: async function* () {
    throw new Error("The engine must not run");
  },
};

async function submitted(changes: Partial<NewJob> = {}): Promise<string> {
  const job = newJob(changes);
  await store.submit(job);
  return job.id;
}

/** Takes the job and runs it, as a worker with no other job does. The queue has no other job. */
async function run(id: string, engine: Engine, onRun: (run: JobRun) => void = () => {}) {
  const { job } = await take();
  if (job === null) return store.record(id);
  expect(job.record.id).toBe(id);
  const deps = { store, engine, attemptsMax: ATTEMPTS_MAX };
  if (job.status !== "claimed") return endUnrun(deps, job);
  const jobRun = new JobRun(job.record);
  onRun(jobRun);
  return runJob(deps, job, jobRun);
}

const take = (suspectAfterMs = 0, leaseMs = 0) =>
  leases.take({
    lanes: [["atlas-qa", "weights"]],
    takesJobs: true,
    suspectAfterMs,
    leaseMs,
    attemptsMax: ATTEMPTS_MAX,
  });

const typesOf = async (id: string) => (await store.log(id)).map(({ type }) => type);

function endedAs(state: TerminalState, text: string, code?: ErrorCode) {
  return { state, text, outcome: { error: code === undefined ? null : { code } } };
}

test("a job's tokens and end are logged, and its record holds its outcome", async () => {
  const id = await submitted();
  const ended = await run(id, engineOf([token(0), token(1), token(2), END]));
  expect(ended).toMatchObject({
    state: "succeeded",
    attempt: 1,
    text: "<0><1><2>",
    outcome: {
      finish_reason: "stop",
      usage: {
        prompt_tokens: 4,
        completion_tokens: 3,
        total_tokens: 7,
        prompt_tokens_details: { cached_tokens: 3 },
        speculation: { drafted_tokens: 11, accepted_tokens: 3 },
        base_calls: 4,
      },
      error: null,
    },
  });
  expect(await store.progress(id)).toEqual({ ids: [0, 1, 2], text: "<0><1><2>" });
  const types = await typesOf(id);
  expect([types[0], types[1], types.at(-1)]).toEqual(["queued", "started", "succeeded"]);
});

test("an output with calls has its own reason, unless a stop string ended it: then a call may be incomplete", async () => {
  const tools = {
    format: "json",
    functions: [{ name: "f" }],
    choice: "auto",
    parallel: true,
  } as const;
  const text = '{"name": "f", "arguments": {"a": 1}}';
  const events = (end: object, output: string): RunEvent[] => [
    { type: "token", token: 1, text: output, baseCalls: 1 },
    { ...END, ...end },
  ];
  const reasonOf = async (end: object, output: string) => {
    const id = await submitted({ generation: generation({ tools }) });
    return (await run(id, engineOf(events(end, output))))?.outcome;
  };
  expect(await reasonOf({}, text)).toMatchObject({ finish_reason: "tool_calls" });
  expect(await reasonOf({ stopString: "}" }, text.slice(0, -2))).toMatchObject({
    finish_reason: "stop",
    stop_sequence: "}",
  });
});

test("a generation that the engine rejects fails the job with the engine's error", async () => {
  const failed = {
    type: "failed",
    code: "invalid_request",
    message: "no",
    usage: USED,
  } as const;
  const ended = await run(await submitted(), engineOf([failed]));
  expect(ended).toMatchObject(endedAs("failed", "", "invalid_request"));
  expect(ended).toMatchObject({ outcome: { usage: { prompt_tokens: 4, total_tokens: 4 } } });
});

test("an engine that throws leaves the job running, for another attempt", async () => {
  const id = await submitted();
  await expect(run(id, noEngine)).rejects.toThrow("The engine must not run");
  expect(await store.record(id)).toMatchObject({ state: "running", attempt: 1 });
  expect(await run(id, engineOf([END]))).toMatchObject({ state: "succeeded", attempt: 2 });
});

describe("cancelled", () => {
  test("before a worker claims it, a job never runs", async () => {
    const id = await submitted();
    await store.cancel(id);
    expect(await run(id, noEngine)).toMatchObject(endedAs("cancelled", ""));
    expect(await typesOf(id)).toEqual(["queued", "cancelled"]);
  });

  test("while it runs, a job stops and keeps its text", async () => {
    const id = await submitted();
    const ended = await run(
      id,
      endlessEngine(2, () => store.cancel(id)),
    );
    const { text } = await store.progress(id);
    expect(text).toMatch(/^<0><1><2>/);
    expect(ended).toMatchObject(endedAs("cancelled", text));
  });

  test("between two attempts, a job does not run again and keeps its text", async () => {
    const id = await submitted();
    await claimJob(redis, id, 0);
    await store.appendTokens(id, 1, 0, { ids: [7], text: "seven" });
    await store.cancel(id);
    expect(await run(id, noEngine)).toMatchObject(endedAs("cancelled", "seven"));
  });

  test("while its last token is generated, a job has succeeded", async () => {
    const id = await submitted();
    const engine: Engine = {
      run: async function* () {
        yield token(0);
        await store.cancel(id);
        yield token(1);
        yield END;
      },
    };
    expect(await run(id, engine)).toMatchObject(endedAs("succeeded", "<0><1>"));
  });
});

describe("expired", () => {
  test("while it runs, a job stops and keeps its text", async () => {
    const id = await submitted({ deadlineInMs: 50 });
    const ended = await run(id, endlessEngine());
    const { text } = await store.progress(id);
    expect(text).toMatch(/^<0>/);
    expect(ended).toMatchObject(endedAs("expired", text, "deadline_exceeded"));
  });

  test("before it is claimed, a job ends when it is claimed", async () => {
    const id = await submitted({ deadlineInMs: -1_000 });
    expect(await run(id, noEngine)).toMatchObject({ state: "expired", attempt: 0 });
  });
});

describe("with start_by", () => {
  test("a job that is claimed later is expired, with the reason", async () => {
    const ended = await run(await submitted({ startByInMs: -1 }), noEngine);
    const message = "The job did not start by start_by";
    expect(ended).toMatchObject({ state: "expired", outcome: { error: { message } } });
  });

  test("a job that has started in time continues", async () => {
    const id = await submitted({ startByInMs: 50 });
    await claimJob(redis, id, 0);
    await new Promise((resolve) => setTimeout(resolve, 60));
    expect(await run(id, engineOf([END]))).toMatchObject({ state: "succeeded", attempt: 2 });
  });
});

describe("taken over", () => {
  test("a job continues after the tokens in its log", async () => {
    const id = await submitted();
    await claimJob(redis, id, 0);
    await store.appendTokens(id, 1, 0, { ids: [0, 1], text: "<0><1>" }, 5);
    const ended = await run(id, engineOf([token(0), token(1), token(2), END]));
    expect(ended).toMatchObject(endedAs("succeeded", "<0><1><2>"));
    const usage = { completion_tokens: 3, base_calls: 5 + USED.baseCalls };
    expect(ended).toMatchObject({ attempt: 2, outcome: { usage } });
    expect(await store.progress(id)).toEqual({ ids: [0, 1, 2], text: "<0><1><2>" });
  });

  test("from a worker that is still alive, a job accepts no more of its tokens", async () => {
    const id = await submitted();
    let length = 0;
    const ended = await run(
      id,
      endlessEngine(3, async () => {
        await claimJob(redis, id);
        length = (await store.log(id)).length;
      }),
    );
    expect(ended).toBeNull();
    expect(await store.log(id)).toHaveLength(length);
    expect((await store.log(id)).at(-1)).toMatchObject({ type: "started", attempt: 2 });
    expect(await store.record(id)).toMatchObject({ state: "running", attempt: 2 });
  });

  test("too often without a new token, a job fails and does not run again", async () => {
    const id = await submitted();
    await claimJob(redis, id, 0);
    await store.recordPrefill(id, 1, 5);
    await store.appendTokens(id, 1, 0, { ids: [7], text: "seven" }, 4);
    for (let i = 0; i < ATTEMPTS_MAX; i++) await take();
    const ended = await run(id, noEngine);
    expect(ended).toMatchObject(endedAs("failed", "seven", "worker_lost"));
    const usage = { prompt_tokens: 5, completion_tokens: 1, total_tokens: 6, base_calls: 4 };
    expect(ended).toMatchObject({ outcome: { usage } });
  });

  test("any number of times with a new token each time, a job continues", async () => {
    const id = await submitted();
    for (let at = 0; at < ATTEMPTS_MAX + 2; at++) {
      const { record } = (await take()).job!;
      await store.appendTokens(id, fenceOf(record), at, { ids: [at], text: "" });
    }
    expect(await run(id, engineOf([END]))).toMatchObject({ state: "succeeded" });
  });

  test("after its end, a job does not change", async () => {
    const id = await submitted();
    const first = await run(id, engineOf([token(0), END]));
    expect(await run(id, noEngine)).toEqual(first);
  });
});

test("a failed append fails the attempt, and the log has no gap", async () => {
  const id = await submitted();
  const append = store.appendTokens.bind(store);
  vi.spyOn(store, "appendTokens")
    .mockImplementationOnce(append)
    .mockRejectedValueOnce(new Error("READONLY"));
  await expect(run(id, endlessEngine())).rejects.toThrow("READONLY");
  vi.restoreAllMocks();
  const { ids } = await store.progress(id);
  expect(ids.length).toBeGreaterThan(0);
  expect(ids).toEqual(Array.from(ids, (_, i) => i));
});

test("a job that is deleted while it runs has no result", async () => {
  const id = await submitted();
  const engine = endlessEngine(2, () => store.delete(id));
  expect(await run(id, engine)).toBeNull();
  expect(await redis.exists(logKey(id))).toBe(0);
});

test.each(["cancelled", "expired"] as const)(
  "a run that is stopped while the engine does not answer ends as %s all the same",
  async (reason) => {
    const id = await submitted();
    const engine: Engine = {
      run: async function* () {
        yield token(0);
        await new Promise(() => {});
      },
    };
    const ended = await run(id, engine, (jobRun) => setTimeout(() => jobRun.stop(reason), 20));
    expect(ended).toMatchObject({ state: reason, text: "<0>" });
  },
);
