import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Scheduler, type Task } from "../../../worker/engine/scheduler.ts";
import type { Models } from "../../../worker/parts.ts";
import { FakeDecoder, fakeModels, noiseLogits } from "../../support/fake-decoder.ts";
import {
  NO_EOS,
  PROMPTS,
  request,
  tokensOf,
  vectorModels,
  type RowOptions,
} from "../../support/rows.ts";

const VOCAB = 20;
const PROMPT_TOKENS = 3;

interface Told {
  readonly tokens: number[];
  readonly ends: (Error | null)[];
}

/** Tasks over a scheduler: what each is told, and in which order all of them are. */
function tasksOver(scheduler: Scheduler) {
  const log: string[] = [];
  let open = 0;
  let wake = () => {};
  return {
    log,
    /** A task that is told apart by its name; a fake token is a byte, so it needs three times `tokensMax`. */
    task: (
      name: string,
      options: RowOptions,
      { onToken, onEnd }: { onToken?: () => void; onEnd?: () => void } = {},
    ): Task & Told => {
      const told: Told = { tokens: [], ends: [] };
      return {
        ...told,
        request: request({ ...options, sampling: { logitBias: [NO_EOS], ...options.sampling } }),
        tokensMax: PROMPT_TOKENS + (options.maxTokens ?? 24),
        onStart: () => void log.push(`${name} starts`),
        onToken: (token) => {
          told.tokens.push(token);
          onToken?.();
        },
        onEnd: (error) => {
          told.ends.push(error);
          log.push(`${name} ${error ? `fails: ${error.message}` : "ends"}`);
          onEnd?.();
          open--;
          if (open === 0) wake();
        },
      };
    },
    submit: (...tasks: Task[]): void => {
      open += tasks.length;
      for (const task of tasks) scheduler.submit(task);
    },
    /** Until all that was submitted has ended. */
    ended: async (): Promise<void> => {
      if (open > 0) await new Promise<void>((resolve) => (wake = resolve));
    },
  };
}

const sum = (models: Models) =>
  models.base.cacheBytes + models.expert.cacheBytes + models.antiexpert.cacheBytes;

describe("tasks that fit together", () => {
  test("share steps, also when they come in the same tick", async () => {
    const models = fakeModels(VOCAB);
    const { task, submit, ended } = tasksOver(new Scheduler(1000));
    const tasks = [1, 2, 3].map((seed) => task(`${seed}`, { models, sampling: { seed } }));
    submit(...tasks);
    await ended();
    expect(models.base.turns).toContain(3);
    expect(models.base.turns.length).toBeLessThan(2 * 24);
    for (const [i, { tokens, ends }] of tasks.entries()) {
      const sampling = { seed: i + 1, logitBias: [NO_EOS] };
      expect(tokens).toEqual(await tokensOf({ models, sampling }));
      expect(ends).toEqual([null]);
    }
    expect(models.base.running).toBe(0);
  });

  test("come and go while others run, and each gives what it gives alone", async () => {
    const models = fakeModels(VOCAB);
    const scheduler = new Scheduler(1000);
    const { task, submit, ended } = tasksOver(scheduler);
    const third = task("third", { models, alpha: 0 });
    const first: Task & Told = task(
      "first",
      { models },
      { onToken: () => void (first.tokens.length === 5 && submit(third)) },
    );
    const second = task("second", { models, maxTokens: 3 });
    submit(first, second);
    await ended();
    const sampling = { logitBias: [NO_EOS] };
    expect(first.tokens).toEqual(await tokensOf({ models, sampling }));
    expect(second.tokens).toEqual(await tokensOf({ models, sampling, maxTokens: 3 }));
    expect(third.tokens).toEqual(await tokensOf({ models, sampling, alpha: 0 }));
  });
});

describe("the cache budget", () => {
  /** At alpha 1, as prompts and 24 tokens in three models. */
  const ONE = 3 * (PROMPT_TOKENS + 24);

  test("lets the next in line wait until there is room, and then run", async () => {
    const models = fakeModels(VOCAB);
    const { log, task, submit, ended } = tasksOver(new Scheduler(2 * ONE));
    submit(...["a", "b", "c", "d"].map((name) => task(name, { models })));
    await ended();
    expect(Math.max(...models.base.turns)).toBe(2);
    expect(log.filter((line) => line.endsWith("starts"))).toEqual(
      ["a", "b", "c", "d"].map((name) => `${name} starts`),
    );
    expect(log.indexOf("c starts")).toBeGreaterThan(log.indexOf("a ends"));
    expect(log.indexOf("c starts")).toBeLessThan(log.indexOf("d starts"));
  });

  test("keeps a small task behind the large one that came first", async () => {
    const models = fakeModels(VOCAB);
    const { log, task, submit, ended } = tasksOver(new Scheduler(ONE + 20));
    const small = { models, alpha: 0, maxTokens: 4 };
    submit(task("first", { models }), task("large", { models }), task("small", small));
    await ended();
    expect(log.indexOf("small starts")).toBeGreaterThan(log.indexOf("large starts"));
    expect(log.indexOf("large starts")).toBeGreaterThan(log.indexOf("first ends"));
  });

  test("counts the base alone at alpha 0", async () => {
    const models = fakeModels(VOCAB);
    const { task, submit, ended } = tasksOver(new Scheduler(ONE));
    submit(...["a", "b", "c"].map((name) => task(name, { models, alpha: 0 })));
    await ended();
    expect(models.base.turns).toContain(3);
  });

  test("counts every pair's models, and once what pairs share", async () => {
    const models = fakeModels(VOCAB);
    const second = { ...models, expert: new FakeDecoder(noiseLogits(4, VOCAB)) };
    const pairs = [models, second].map((of) => ({ weight: 0.5, models: of, prompts: PROMPTS }));
    const most = async (cacheBytesMax: number) => {
      models.base.turns.length = 0;
      const { task, submit, ended } = tasksOver(new Scheduler(cacheBytesMax));
      submit(...["a", "b"].map((name) => task(name, { models, pairs })));
      await ended();
      return Math.max(...models.base.turns);
    };
    const four = 4 * (PROMPT_TOKENS + 24);
    expect([await most(2 * four - 1), await most(2 * four)]).toEqual([1, 2]);
  });

  test("fails a task that could never fit, with both numbers, and no other", async () => {
    const models = fakeModels(VOCAB);
    const { task, submit, ended } = tasksOver(new Scheduler(3 * 2 ** 20));
    const large = { ...task("large", { models }), tokensMax: 1.5 * 2 ** 20 };
    const other = task("other", { models });
    submit(large, other);
    await ended();
    expect(large.ends.map((error) => error?.message)).toEqual([
      "the job needs 5 MiB of KV cache; this worker has 3",
    ]);
    expect([large.tokens.length, other.tokens.length]).toEqual([0, 24]);
    expect(other.ends).toEqual([null]);
  });

  test(
    "is kept with real caches, whatever comes, speculates and goes",
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
          let mostBytes = 0;
          const tasks = plans.map((plan, i) => {
            const prompts = {
              ...PROMPTS,
              base: Array.from({ length: plan.base }, (_, id) => 1 + (id % 100)),
            };
            const options = { models, prompts, maxTokens: plan.maxTokens, alpha: plan.alpha };
            const made: Task & Told = task(`${i}`, options, {
              onToken: () => {
                mostBytes = Math.max(mostBytes, sum(models));
                if (made.tokens.length === plan.stopsAt) scheduler.stop(made);
              },
            });
            return { ...made, tokensMax: plan.base + plan.maxTokens };
          });
          submit(...tasks);
          await ended();
          expect(mostBytes).toBeLessThanOrEqual(cacheBytesMax);
          expect(sum(models)).toBe(0);
          for (const { ends } of tasks) expect(ends).toEqual([null]);
        }),
        { numRuns: 10, seed: 1 },
      );
    },
  );
});

describe("a task that is stopped", () => {
  test("while it runs ends before its next token, and leaves the others alone", async () => {
    const models = fakeModels(VOCAB);
    const scheduler = new Scheduler(1000);
    const { task, submit, ended } = tasksOver(scheduler);
    const stopped: Task & Told = task(
      "stopped",
      { models },
      { onToken: () => void (stopped.tokens.length === 3 && scheduler.stop(stopped)) },
    );
    const other = task("other", { models });
    submit(other, stopped);
    await ended();
    expect([stopped.tokens.length, other.tokens.length]).toEqual([3, 24]);
    expect([stopped.ends, other.ends]).toEqual([[null], [null]]);
    expect(models.base.running).toBe(0);
  });

  test("while it waits never starts, and those behind it move up", async () => {
    const models = fakeModels(VOCAB);
    const scheduler = new Scheduler(100);
    const { log, task, submit, ended } = tasksOver(scheduler);
    const [running, waiting, next] = ["running", "waiting", "next"].map((name) =>
      task(name, { models }),
    ) as [Task & Told, Task & Told, Task & Told];
    submit(running, waiting, next);
    scheduler.stop(waiting);
    await ended();
    expect(waiting).toMatchObject({ tokens: [], ends: [null] });
    expect(log.indexOf("waiting ends")).toBeLessThan(log.indexOf("running ends"));
    expect(next.tokens).toHaveLength(24);
  });

  test("twice, or when it has ended, is told its end once", async () => {
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
  test("whose earlier tokens had finished it ends without a token", async () => {
    const models = fakeModels(VOCAB);
    const { task, submit, ended } = tasksOver(new Scheduler(1000));
    const resumed = task("resumed", { models, resume: [7, 8], maxTokens: 2 });
    submit(resumed);
    await ended();
    expect(resumed).toMatchObject({ tokens: [], ends: [null] });
    expect(models.base.opened).toBe(0);
  });

  test("that cannot even start fails alone", async () => {
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
    const mad = new FakeDecoder((ids) =>
      ids.length > 6 ? new Float32Array(VOCAB).fill(Number.NaN) : noiseLogits(1, VOCAB)(ids),
    );
    const { task, submit, ended } = tasksOver(new Scheduler(1000));
    const failing = task("failing", { models: { ...models, expert: mad } });
    const other = task("other", { models });
    submit(failing, other);
    await ended();
    expect(failing.ends).toEqual([new Error("no finite logit to choose from")]);
    expect(other.ends).toEqual([null]);
    expect([other.tokens.length, models.base.running, mad.running]).toEqual([24, 0, 0]);
  });
});

test("a model that throws fails all that run, and those that wait are served", async () => {
  const models = fakeModels(VOCAB);
  let isBroken = true;
  const fragile = new FakeDecoder((ids) => {
    if (isBroken && ids.length > 8) throw new Error("the device is gone");
    return noiseLogits(1, VOCAB)(ids);
  });
  const { task, submit, ended } = tasksOver(new Scheduler(2 * 81));
  const repair = { onEnd: () => void (isBroken = false) };
  const [a, b, c] = [
    task("a", { models: { ...models, base: fragile } }, repair),
    task("b", { models }),
    task("c", { models: { ...models, base: fragile } }),
  ];
  submit(a, b, c);
  await ended();
  expect([a.ends, b.ends]).toEqual([
    [new Error("the device is gone")],
    [new Error("the device is gone")],
  ]);
  expect([c.ends, c.tokens.length]).toEqual([[null], 24]);
  expect([fragile.running, models.base.running, models.expert.running]).toEqual([0, 0, 0]);
});
