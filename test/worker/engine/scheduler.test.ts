/** The scheduler: KV cache budget, order, stopping, failures. */
import * as fc from "fast-check";
import { describe, expect, test, vi } from "vitest";
import { Scheduler, type Task } from "../../../worker/engine/scheduler.ts";
import type { Models } from "../../../worker/engine/model/ensemble.ts";
import { PROMPT_TOKENS, tasksOver, type Progress } from "../../support/scheduler-tasks.ts";
import { FakeDecoder, fakeModels, noiseLogits } from "../../support/fake-decoder.ts";
import { NO_EOS, PROMPTS, runTokens, vectorModels } from "../../support/decode-loop.ts";

const VOCAB = 20;
const cacheBytes = (models: Models) =>
  models.base.cacheBytes + models.expert.cacheBytes + models.antiexpert.cacheBytes;

describe("tasks that fit together", () => {
  test("share steps, also when they are submitted in the same tick", async () => {
    const models = fakeModels(VOCAB);
    const { task, submit, ended } = tasksOver(new Scheduler(1000));
    const tasks = [1, 2, 3].map((seed) => task(`${seed}`, { models, sampling: { seed } }));
    submit(...tasks);
    await ended();
    expect(models.base.batchSizes).toContain(3);
    expect(models.base.batchSizes.length).toBeLessThan(2 * 24);
    for (const [i, { tokens, ends }] of tasks.entries()) {
      const sampling = { seed: i + 1, logitBias: [NO_EOS] };
      expect(tokens).toEqual(await runTokens({ models, sampling }));
      expect(ends).toEqual([null]);
    }
    expect(models.base.openCount).toBe(0);
  });

  test("join and leave while others run, and each gives the same tokens as alone", async () => {
    const models = fakeModels(VOCAB);
    const scheduler = new Scheduler(1000);
    const { task, submit, ended } = tasksOver(scheduler);
    const third = task("third", { models, alpha: 0 });
    const first: Task & Progress = task(
      "first",
      { models },
      { onToken: () => void (first.tokens.length === 5 && submit(third)) },
    );
    const second = task("second", { models, maxTokens: 3 });
    submit(first, second);
    await ended();
    const sampling = { logitBias: [NO_EOS] };
    expect(first.tokens).toEqual(await runTokens({ models, sampling }));
    expect(second.tokens).toEqual(await runTokens({ models, sampling, maxTokens: 3 }));
    expect(third.tokens).toEqual(await runTokens({ models, sampling, alpha: 0 }));
  });
});

describe("the cache budget", () => {
  /** Bytes of a task at alpha 1: prompt and 24 tokens in three models. */
  const ONE = 3 * (PROMPT_TOKENS + 24);

  test("makes the next task wait until there is room", async () => {
    const models = fakeModels(VOCAB);
    const { log, task, submit, ended } = tasksOver(new Scheduler(2 * ONE));
    submit(...["a", "b", "c", "d"].map((name) => task(name, { models })));
    await ended();
    expect(Math.max(...models.base.batchSizes)).toBe(2);
    expect(log.filter((line) => line.endsWith("starts"))).toEqual(
      ["a", "b", "c", "d"].map((name) => `${name} starts`),
    );
    expect(log.indexOf("c starts")).toBeGreaterThan(log.indexOf("a ends"));
    expect(log.indexOf("c starts")).toBeLessThan(log.indexOf("d starts"));
  });

  test("does not let a small task overtake a large one that was submitted first", async () => {
    const models = fakeModels(VOCAB);
    const { log, task, submit, ended } = tasksOver(new Scheduler(ONE + 20));
    const small = { models, alpha: 0, maxTokens: 4 };
    submit(task("first", { models }), task("large", { models }), task("small", small));
    await ended();
    expect(log.indexOf("small starts")).toBeGreaterThan(log.indexOf("large starts"));
    expect(log.indexOf("large starts")).toBeGreaterThan(log.indexOf("first ends"));
  });

  test("is divided when a task starts or ends, not in the steps between", async () => {
    const models = fakeModels(VOCAB);
    const counted = vi.spyOn(models.base, "cacheBytesFor");
    const { task, submit, ended } = tasksOver(new Scheduler(2 * ONE));
    submit(...["a", "b", "c"].map((name) => task(name, { models })));
    await ended();
    // Decoded, or verified after drafts: that depends on measured times.
    expect(models.base.tokenRuns.length).toBeGreaterThan(40);
    expect(counted.mock.calls.length).toBeLessThan(15);
  });

  test("counts only the base at alpha 0", async () => {
    const models = fakeModels(VOCAB);
    const { task, submit, ended } = tasksOver(new Scheduler(ONE));
    submit(...["a", "b", "c"].map((name) => task(name, { models, alpha: 0 })));
    await ended();
    expect(models.base.batchSizes).toContain(3);
  });

  test("counts the models of every pair, and a model that pairs share once", async () => {
    const models = fakeModels(VOCAB);
    const second = { ...models, expert: new FakeDecoder(noiseLogits(4, VOCAB)) };
    const pairs = [models, second].map((of) => ({ weight: 0.5, models: of, prompts: PROMPTS }));
    const batchSizeMax = async (cacheBytesMax: number) => {
      models.base.batchSizes.length = 0;
      const { task, submit, ended } = tasksOver(new Scheduler(cacheBytesMax));
      submit(...["a", "b"].map((name) => task(name, { models, pairs })));
      await ended();
      return Math.max(...models.base.batchSizes);
    };
    const four = 4 * (PROMPT_TOKENS + 24);
    expect([await batchSizeMax(2 * four - 1), await batchSizeMax(2 * four)]).toEqual([1, 2]);
  });

  test("fails a task that could never fit, with both numbers; other tasks run", async () => {
    const models = fakeModels(VOCAB);
    const { task, submit, ended } = tasksOver(new Scheduler(3 * 2 ** 20));
    const large = { ...task("large", { models }), cacheTokensMax: 1.5 * 2 ** 20 };
    const other = task("other", { models });
    submit(large, other);
    await ended();
    expect(large.ends.map((error) => error?.message)).toEqual([
      "The job needs 5 MiB of KV cache; this worker has 3 MiB",
    ]);
    expect([large.tokens.length, other.tokens.length]).toEqual([0, 24]);
    expect(other.ends).toEqual([null]);
  });

  test(
    "holds with real KV caches, while tasks join, draft and leave",
    { timeout: 30_000 },
    async () => {
      const models = await vectorModels("llama", 128);
      const plan = fc.record({
        base: fc.integer({ min: 1, max: 150 }),
        maxTokens: fc.integer({ min: 1, max: 30 }),
        alpha: fc.constantFrom(0, 1),
        stopsAt: fc.option(fc.integer({ min: 1, max: 10 })),
        isFirst: fc.boolean(),
      });
      const budget = (room: number) => (3 * 192 * room * models.base.cacheBytesFor([1])) / 64;
      await fc.assert(
        fc.asyncProperty(fc.array(plan, { minLength: 1, maxLength: 8 }), async (plans) => {
          const cacheBytesMax = budget(2);
          const scheduler = new Scheduler(cacheBytesMax);
          const { task, submit, ended } = tasksOver(scheduler);
          let bytesMax = 0;
          const tasks = plans.map((plan, i) => {
            const prompts = {
              ...PROMPTS,
              base: Array.from({ length: plan.base }, (_, id) => 1 + (id % 100)),
            };
            const options = { models, prompts, maxTokens: plan.maxTokens, alpha: plan.alpha };
            const started: Task & Progress = task(`${i}`, options, {
              onToken: () => {
                bytesMax = Math.max(bytesMax, cacheBytes(models));
                if (started.tokens.length === plan.stopsAt) scheduler.stop(started);
              },
            });
            return { ...started, cacheTokensMax: plan.base + plan.maxTokens };
          });
          submit(...tasks);
          await ended();
          expect(bytesMax).toBeLessThanOrEqual(cacheBytesMax);
          expect(cacheBytes(models)).toBe(0);
          for (const { ends } of tasks) expect(ends).toEqual([null]);
        }),
        { numRuns: 10, seed: 1 },
      );
    },
  );
});

describe("a stopped task", () => {
  test("that runs ends before its next token, and the others continue", async () => {
    const models = fakeModels(VOCAB);
    const scheduler = new Scheduler(1000);
    const { task, submit, ended } = tasksOver(scheduler);
    const stopped: Task & Progress = task(
      "stopped",
      { models },
      { onToken: () => void (stopped.tokens.length === 3 && scheduler.stop(stopped)) },
    );
    const other = task("other", { models });
    submit(other, stopped);
    await ended();
    expect([stopped.tokens.length, other.tokens.length]).toEqual([3, 24]);
    expect([stopped.ends, other.ends]).toEqual([[null], [null]]);
    expect(models.base.openCount).toBe(0);
  });

  test("that waits never starts, and the next one takes its place", async () => {
    const models = fakeModels(VOCAB);
    const scheduler = new Scheduler(100);
    const { log, task, submit, ended } = tasksOver(scheduler);
    const [running, waiting, next] = ["running", "waiting", "next"].map((name) =>
      task(name, { models }),
    ) as [Task & Progress, Task & Progress, Task & Progress];
    submit(running, waiting, next);
    scheduler.stop(waiting);
    await ended();
    expect(waiting).toMatchObject({ tokens: [], ends: [null] });
    expect(log.indexOf("waiting ends")).toBeLessThan(log.indexOf("running ends"));
    expect(next.tokens).toHaveLength(24);
  });

  test("ends once, also if it is stopped twice or after its end", async () => {
    const models = fakeModels(VOCAB);
    const scheduler = new Scheduler(1000);
    const { task, submit, ended } = tasksOver(scheduler);
    const twice = task("twice", { models });
    const over = task("over", { models, maxTokens: 1 }, { onEnd: () => scheduler.stop(over) });
    submit(twice, over);
    scheduler.stop(twice);
    scheduler.stop(twice);
    await ended();
    scheduler.stop(over);
    const after = task("after", { models });
    submit(after);
    await ended();
    expect([twice.ends, over.ends, after.ends]).toEqual([[null], [null], [null]]);
    expect(after.tokens).toHaveLength(24);
  });
});

describe("a task", () => {
  test("whose resumed tokens finish it ends without a new token", async () => {
    const models = fakeModels(VOCAB);
    const { task, submit, ended } = tasksOver(new Scheduler(1000));
    const resumed = task("resumed", { models, resume: [7, 8], maxTokens: 2 });
    submit(resumed);
    await ended();
    expect(resumed).toMatchObject({ tokens: [], ends: [null] });
    expect(models.base.openedCount).toBe(0);
  });

  test("that cannot open its caches fails alone", async () => {
    const models = fakeModels(VOCAB);
    const unopened = new FakeDecoder(noiseLogits(1, VOCAB));
    unopened.open = () => {
      throw new Error("no memory");
    };
    const { task, submit, ended } = tasksOver(new Scheduler(1000));
    const [failing, other] = [
      task("failing", { models: { ...models, base: unopened } }),
      task("other", { models }),
    ];
    submit(failing, other);
    await ended();
    expect(failing.ends).toEqual([new Error("no memory")]);
    expect(other.tokens).toHaveLength(24);
  });

  test("without a finite logit fails alone", async () => {
    const models = fakeModels(VOCAB);
    const failingModel = new FakeDecoder((ids) =>
      ids.length > 6 ? new Float32Array(VOCAB).fill(Number.NaN) : noiseLogits(1, VOCAB)(ids),
    );
    const { task, submit, ended } = tasksOver(new Scheduler(1000));
    const failing = task("failing", { models: { ...models, expert: failingModel } });
    const other = task("other", { models });
    submit(failing, other);
    await ended();
    expect(failing.ends).toEqual([new Error("No token can be sampled: no logit is finite")]);
    expect(other.ends).toEqual([null]);
    expect([other.tokens.length, models.base.openCount, failingModel.openCount]).toEqual([
      24, 0, 0,
    ]);
  });
});
