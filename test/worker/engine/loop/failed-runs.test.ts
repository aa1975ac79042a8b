/** A model whose run fails: which sequences end, and what the others generate. */
import { describe, expect, test } from "vitest";
import { Scheduler } from "../../../../worker/engine/scheduler.ts";
import { NO_EOS, PROMPTS, runTokens } from "../../../support/decode-loop.ts";
import { FakeDecoder, fakeModels, noiseLogits } from "../../../support/fake-decoder.ts";
import { tasksOver } from "../../../support/scheduler-tasks.ts";

const VOCAB = 20;

describe("after a failed run of several tasks", () => {
  /** Prompts that begin with this token make the base throw after some tokens. */
  const GUILTY = 9;
  const fragile = () =>
    new FakeDecoder((ids) => {
      if (ids[0] === GUILTY && ids.length > 8) throw new Error("an index is out of bounds");
      return noiseLogits(1, VOCAB)(ids);
    });
  const guiltyPrompts = { ...PROMPTS, base: [GUILTY, 2, 3] };

  test.each(["base", "antiexpert"] as const)(
    "only the one that causes it ends, and the others have the tokens of a run alone (%s)",
    async (role) => {
      const models = { ...fakeModels(VOCAB), [role]: fragile() };
      const { task, submit, ended } = tasksOver(new Scheduler(1000));
      const prompts = { ...PROMPTS, [role]: [GUILTY, 2, 3] };
      const innocent = [1, 2].map((seed) => task(`${seed}`, { models, sampling: { seed } }));
      const guilty = task("guilty", { models, prompts });
      submit(innocent[0]!, guilty, innocent[1]!);
      await ended();
      expect(guilty.ends).toEqual([new Error("an index is out of bounds")]);
      for (const [i, { tokens, ends }] of innocent.entries()) {
        const sampling = { seed: i + 1, logitBias: [NO_EOS] };
        expect(ends).toEqual([null]);
        expect(tokens).toEqual(await runTokens({ models, sampling }));
      }
      expect([models.base.openCount, models.expert.openCount]).toEqual([0, 0]);
    },
  );

  test("models that cannot rewind start again too", async () => {
    const models = { ...fakeModels(VOCAB, { canRewind: false }), base: fragile() };
    const { task, submit, ended } = tasksOver(new Scheduler(1000));
    const [innocent, guilty] = [
      task("innocent", { models }),
      task("guilty", { models, prompts: guiltyPrompts }),
    ];
    submit(innocent, guilty);
    await ended();
    expect([innocent.ends, guilty.ends.length]).toEqual([[null], 1]);
    expect(innocent.tokens).toEqual(await runTokens({ models, sampling: { logitBias: [NO_EOS] } }));
  });

  test("a prompt whose prefill fails ends by itself, and waiting tasks run", async () => {
    const models = fakeModels(VOCAB);
    const { task, submit, ended } = tasksOver(new Scheduler(2 * 81));
    const long = { ...PROMPTS, base: [GUILTY, ...Array<number>(9).fill(2)] };
    const [a, b, c] = [
      task("a", { models: { ...models, base: fragile() }, prompts: long }),
      task("b", { models }),
      task("c", { models }),
    ];
    submit(a, b, c);
    await ended();
    expect(a.ends).toEqual([new Error("an index is out of bounds")]);
    expect([b.ends, c.ends, c.tokens.length]).toEqual([[null], [null], 24]);
    expect(models.expert.openCount).toBe(0);
  });
});
