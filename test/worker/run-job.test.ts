import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { startRedis, type RedisServer } from "../../infra/stack/redis.ts";
import type { TerminalState } from "../../shared/contract.ts";
import type { ErrorCode } from "../../shared/errors.ts";
import type { NewJob } from "../../shared/job.ts";
import { JobStore } from "../../shared/job-store.ts";
import { jobKey, permitLockKey } from "../../shared/redis-keys.ts";
import type { EngineClient } from "../../worker/engine/client.ts";
import type { EndEvent, RunEvent, Used } from "../../worker/engine/messages.ts";
import { runJob } from "../../worker/run-job.ts";
import { newJob } from "../support/generation.ts";

type Engine = Pick<EngineClient, "run">;

const ATTEMPTS_MAX = 3;
const USED: Used = {
  promptTokens: 4,
  cachedTokens: 3,
  drafts: { expert: { drafted: 5, accepted: 2 }, lookup: { drafted: 6, accepted: 1 } },
};
const END: EndEvent = { type: "end", finish: "stop", used: USED };
const token = (id: number): RunEvent => ({ type: "token", token: id, text: `<${id}>` });

let server: RedisServer;
let redis: Redis;
let store: JobStore;

beforeAll(async () => {
  server = await startRedis();
  redis = new Redis(server.url);
  store = new JobStore(redis, 60_000);
});

afterAll(async () => {
  redis.disconnect();
  await server.stop();
});

/** An engine that gives these events at once, after what it is to resume from. */
function engineOf(events: readonly RunEvent[]): Engine {
  return {
    run: async function* (_tenant, _generation, resume) {
      yield* events.slice(resume.length);
    },
  };
}

/** An engine that gives tokens until it is stopped, as the real one does; before one of them it acts. */
function endlessEngine(before = -1, act: () => Promise<unknown> = async () => {}): Engine {
  return {
    run: async function* (_tenant, _generation, resume, signal) {
      for (let id = resume.length; !signal.aborted; id++) {
        if (id === before) await act();
        yield token(id);
        await new Promise(setImmediate);
      }
      yield { type: "end", finish: null, used: USED };
    },
  };
}

const noEngine: Engine = {
  // oxlint-disable-next-line require-yield
  run: async function* () {
    throw new Error("the engine must not run");
  },
};

async function submitted(changes: Partial<NewJob> = {}): Promise<string> {
  const job = newJob(changes);
  await store.submit(job);
  return job.id;
}

const run = (id: string, engine: Engine) =>
  runJob({ store, engine, attemptsMax: ATTEMPTS_MAX }, id);
const typesOf = async (id: string) => (await store.log(id)).map(({ type }) => type);

function endedAs(state: TerminalState, text: string, code?: ErrorCode) {
  return { state, text, outcome: { error: code === undefined ? null : { code } } };
}

test("a job's tokens and end are logged, and its record tells how it ended", async () => {
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
      },
      error: null,
    },
  });
  expect(await store.progress(id)).toEqual({ ids: [0, 1, 2], text: "<0><1><2>" });
  const types = await typesOf(id);
  expect([types[0], types[1], types.at(-1)]).toEqual(["queued", "started", "succeeded"]);
});

test("a generation that cannot be served fails the job with the engine's reason", async () => {
  const failed = {
    type: "failed",
    code: "invalid_request",
    message: "no",
    used: USED,
  } as const;
  const ended = await run(await submitted(), engineOf([failed]));
  expect(ended).toMatchObject(endedAs("failed", "", "invalid_request"));
  expect(ended).toMatchObject({ outcome: { usage: { prompt_tokens: 4, total_tokens: 4 } } });
});

test("an engine that throws leaves the job to another attempt", async () => {
  const id = await submitted();
  await expect(run(id, noEngine)).rejects.toThrow("the engine must not run");
  expect(await store.record(id)).toMatchObject({ state: "running", attempt: 1 });
  expect(await run(id, engineOf([END]))).toMatchObject({ state: "succeeded", attempt: 2 });
});

describe("cancelled", () => {
  test("before a worker has it, a job is never run", async () => {
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

  test("between two workers, a job is not run again and keeps its text", async () => {
    const id = await submitted();
    const claim = await store.claim(id, ATTEMPTS_MAX);
    expect(claim.status).toBe("claimed");
    await store.appendTokens(id, 1, 0, { ids: [7], text: "seven" });
    await store.cancel(id);
    expect(await run(id, noEngine)).toMatchObject(endedAs("cancelled", "seven"));
  });

  test("too late, a job that has finished by itself has succeeded", async () => {
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
    const id = await submitted({ deadlineMs: Date.now() + 30 });
    const ended = await run(id, endlessEngine());
    const { text } = await store.progress(id);
    expect(text).toMatch(/^<0>/);
    expect(ended).toMatchObject(endedAs("expired", text, "deadline_exceeded"));
  });

  test("before it is taken up, a job ends as soon as it is", async () => {
    const id = await submitted({ deadlineMs: Date.now() - 1_000 });
    expect(await run(id, endlessEngine())).toMatchObject({ state: "expired" });
  });
});

describe("to start by a time", () => {
  const late = { startByMs: Date.now() - 1 };

  test("a job that is taken up later is expired, and says why", async () => {
    const ended = await run(await submitted(late), noEngine);
    const message = "the job did not start by start_by";
    expect(ended).toMatchObject({ state: "expired", outcome: { error: { message } } });
  });

  test("a job that has started goes on", async () => {
    const job = newJob({ startByMs: Date.now() + 1_000 });
    await store.submit(job);
    await store.claim(job.id, ATTEMPTS_MAX);
    await redis.hset(jobKey(job.id), "startByMs", late.startByMs);
    expect(await store.due(Date.now() + 2_000, 1_000)).not.toContain(job.id);
    expect(await run(job.id, engineOf([END]))).toMatchObject({ state: "succeeded", attempt: 2 });
  });
});

describe("taken over", () => {
  test("a job goes on after the tokens in its log", async () => {
    const id = await submitted();
    await store.claim(id, ATTEMPTS_MAX);
    await store.appendTokens(id, 1, 0, { ids: [0, 1], text: "<0><1>" });
    const ended = await run(id, engineOf([token(0), token(1), token(2), END]));
    expect(ended).toMatchObject(endedAs("succeeded", "<0><1><2>"));
    expect(ended).toMatchObject({ attempt: 2, outcome: { usage: { completion_tokens: 3 } } });
    expect(await store.progress(id)).toEqual({ ids: [0, 1, 2], text: "<0><1><2>" });
  });

  test("from a worker that still lives, a job takes nothing more from it", async () => {
    const id = await submitted();
    let length = 0;
    const ended = await run(
      id,
      endlessEngine(3, async () => {
        await store.claim(id, ATTEMPTS_MAX);
        length = (await store.log(id)).length;
      }),
    );
    expect(ended).toBeNull();
    expect(await store.log(id)).toHaveLength(length);
    expect((await store.log(id)).at(-1)).toMatchObject({ type: "started", attempt: 2 });
    expect(await store.record(id)).toMatchObject({ state: "running", attempt: 2 });
  });

  test("by a worker whose permit is another's, a job is left to that one", async () => {
    const id = await submitted();
    const permit = { id: "p", token: "mine" };
    await redis.set(permitLockKey("p"), "another");
    expect(await runJob({ store, engine: noEngine, attemptsMax: 1 }, id, permit)).toBeNull();
    expect(await store.record(id)).toMatchObject({ state: "queued", attempt: 0 });
    await redis.set(permitLockKey("p"), permit.token);
    const deps = { store, engine: engineOf([END]), attemptsMax: 1 };
    expect(await runJob(deps, id, permit)).toMatchObject({ state: "succeeded", attempt: 1 });
  });

  test("too often, a job fails as the cause and is not run again", async () => {
    const id = await submitted();
    await store.claim(id, ATTEMPTS_MAX);
    await store.prefilling(id, 1, 5);
    await store.appendTokens(id, 1, 0, { ids: [7], text: "seven" });
    for (let i = 0; i < ATTEMPTS_MAX; i++) await store.claim(id, ATTEMPTS_MAX);
    const ended = await run(id, noEngine);
    expect(ended).toMatchObject(endedAs("failed", "seven", "worker_lost"));
    const usage = { prompt_tokens: 5, completion_tokens: 1, total_tokens: 6 };
    expect(ended).toMatchObject({ outcome: { usage } });
  });

  test("however often, a job that came further each time goes on", async () => {
    const id = await submitted();
    for (let at = 0; at < ATTEMPTS_MAX + 2; at++) {
      await store.claim(id, ATTEMPTS_MAX);
      await store.appendTokens(id, at + 1, at, { ids: [at], text: "" });
    }
    expect(await run(id, engineOf([END]))).toMatchObject({ state: "succeeded" });
  });

  test("after its end, a job stays as it was", async () => {
    const id = await submitted();
    const first = await run(id, engineOf([token(0), END]));
    expect(await run(id, noEngine)).toEqual(first);
  });
});

test("an append that fails fails the attempt, and the log has no gap", async () => {
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

test("a job that is gone is nobody's", async () => {
  expect(await run("job_gone", noEngine)).toBeNull();
});
