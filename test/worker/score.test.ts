/** Scoring: the tokens are given, and what is told of them is what one token at a time would tell. */
import { describe, expect, test } from "vitest";
import { Output } from "../../worker/decode/output.ts";
import { Batch, generate, SCORE_CHUNK_TOKENS } from "../../worker/generate.ts";
import type { Decoder } from "../../worker/model/decoder.ts";
import type { GenerateRequest, Row } from "../../worker/row.ts";
import type { Report } from "../../worker/decode/trace.ts";
import { FakeDecoder, fakeModels, noiseLogits } from "../support/fake-decoder.ts";
import { EOS, PROMPTS, request, stepsOf, vectorModels, type RowOptions } from "../support/rows.ts";

const VOCAB = 20;
const GREEDY = { temperature: 0 };

/** Longer than a chunk, with end tokens within. */
const textOf = (vocabSize: number, length = 3 * SCORE_CHUNK_TOKENS - 5) =>
  Array.from({ length }, (_, i) => (i * i + 3 * i) % (vocabSize - 3));

function scoring(options: RowOptions, forced = textOf(options.models.vocabSize)): GenerateRequest {
  const made = request({ sampling: GREEDY, ...options });
  const end = { stop: [], eosIds: new Set<number>(), maxTokens: forced.length };
  const output = new Output({ decode: () => "", ...end });
  return { ...made, output, forced, report: { logprobs: 2, trace: true } };
}

async function score(made: GenerateRequest) {
  const told: { token: number; report: Report }[] = [];
  for await (const { token, report } of generate(made)) told.push({ token, report: report! });
  return told;
}

/** Log-probabilities of the text, each of its tokens run by itself. */
async function slowly(
  model: Decoder,
  prompt: readonly number[],
  text: readonly number[],
  V: number,
) {
  const sequence = model.open();
  if (prompt.length > 1) await model.prefill(sequence, prompt.slice(0, -1));
  const rows: number[][] = [];
  for (const id of [prompt.at(-1)!, ...text.slice(0, -1)]) {
    const [row] = await model.decode([{ sequence, id }]);
    rows.push([...row!.subarray(0, V)]);
  }
  model.close(sequence);
  return rows;
}

const logprob = (row: readonly number[], token: number) =>
  row[token]! - Math.log(row.reduce((sum, logit) => sum + Math.exp(logit), 0));

describe("the log-probabilities of a text", () => {
  test.each(["llama", "gemma2"])(
    "are those of its tokens one at a time, under each model and steered: %s",
    { timeout: 30_000 },
    async (family) => {
      const models = await vectorModels(family, 128);
      const made = scoring(
        { models, alpha: 0.8 },
        textOf(128).map((id) => Math.max(1, id)),
      );
      const text = made.forced!;
      const [base, expert, antiexpert] = [
        await slowly(models.base, PROMPTS.base, text, 128),
        await slowly(models.expert, PROMPTS.expert, text, 128),
        await slowly(models.antiexpert, PROMPTS.antiexpert, text, 128),
      ];
      const told = await score(made);
      expect(told.map(({ token }) => token)).toEqual(text);
      for (const [i, { token, report }] of told.entries()) {
        const steered = base[i]!.map((b, id) => b + 0.8 * (expert[i]![id]! - antiexpert[i]![id]!));
        const { shift, logprobs } = report;
        expect(shift!.base).toBeCloseTo(logprob(base[i]!, token), 2);
        expect(shift!.expert).toBeCloseTo(logprob(expert[i]!, token), 2);
        expect(shift!.antiexpert).toBeCloseTo(logprob(antiexpert[i]!, token), 2);
        expect(shift!.steered).toBeCloseTo(logprob(steered, token), 2);
        expect(logprobs!.logprob).toBe(shift!.steered);
        expect(shift!.baseToken).toBe(base[i]!.indexOf(Math.max(...base[i]!)));
      }
      expect(models.base.cacheBytes).toBe(0);
    },
  );

  test("need one run of each model for a chunk, which is all whose logits are held", async () => {
    const models = fakeModels(VOCAB);
    const told = await score(scoring({ models }));
    for (const model of [models.base, models.expert, models.antiexpert]) {
      expect(model.scored.map(({ length }) => length)).toEqual([32, 32, 27]);
      expect([model.turns, model.running]).toEqual([[], 0]);
    }
    expect(told).toHaveLength(91);
  });

  test("are the base's alone at alpha 0, which is all that is run", async () => {
    const models = fakeModels(VOCAB);
    const told = await score(scoring({ models, alpha: 0 }));
    for (const { token, report } of told) {
      const { base, expert, antiexpert, steered, kl, baseToken } = report.shift!;
      expect([expert, antiexpert, kl]).toEqual([null, null, 0]);
      expect(steered).toBe(base);
      expect(baseToken === token).toBe(report.logprobs!.top[0]!.id === token);
    }
    expect(told.some(({ token, report }) => report.shift!.baseToken !== token)).toBe(true);
    expect(models.expert.opened).toBe(0);
  });
});

describe("a text that is scored", () => {
  test("goes on where an earlier attempt was cut", async () => {
    const models = fakeModels(VOCAB);
    const whole = await score(scoring({ models }));
    for (const cut of [1, 31, 32, 50, 90]) {
      const resume = textOf(VOCAB).slice(0, cut);
      expect(await score(scoring({ models, resume }))).toEqual(whole.slice(cut));
    }
  });

  test.each([true, false])(
    "gives what it gives alone in company, which goes on meanwhile (speculating: %s)",
    async (speculate) => {
      const models = fakeModels(VOCAB);
      const drawn: RowOptions = { models, maxTokens: 12, sampling: { logitBias: [[EOS, -1000]] } };
      const alone = [await score(scoring({ models })), await stepsOf(drawn)] as const;
      const batch = new Batch({ speculate });
      const rows = [
        batch.add(scoring({ models }))!,
        batch.add(request(drawn))!,
        batch.add(scoring({ models, alpha: 0.5 }))!,
      ] as const;
      const told = new Map<Row, { token: number; report: Report | null }[]>(
        rows.map((row) => [row, []]),
      );
      for (let step = 0; batch.size > 0; step++) {
        for (const made of await batch.step()) {
          if ("error" in made) throw made.error;
          told.get(made.row)!.push({ token: made.token, report: made.report });
        }
        expect(told.get(rows[1])!.length).toBeGreaterThanOrEqual(Math.min(12, step + 1));
      }
      expect(told.get(rows[0])).toEqual(alone[0]);
      expect(told.get(rows[1])!.map(({ token }) => token)).toEqual(
        alone[1].map(({ token }) => token),
      );
      expect(told.get(rows[2])).toEqual(await score(scoring({ models, alpha: 0.5 })));
    },
  );

  test("fails alone where a model is at a loss, also where caches cannot forget", async () => {
    const models = fakeModels(VOCAB, { canRewind: false });
    const mad = new FakeDecoder(
      (ids) => noiseLogits(1, VOCAB)(ids).fill(ids.length > 20 ? Number.NaN : 1, 0, VOCAB),
      { canRewind: false },
    );
    const batch = new Batch();
    const failing = batch.add(scoring({ models: { ...models, base: mad } }))!;
    const other = batch.add(scoring({ models }, [1, 2, 3]))!;
    const errors: Row[] = [];
    const fine: Row[] = [];
    while (batch.size > 0) {
      for (const step of await batch.step()) ("error" in step ? errors : fine).push(step.row);
    }
    expect(errors).toEqual([failing]);
    expect(fine.filter((row) => row === other)).toHaveLength(3);
    expect([mad.running, models.base.running, models.expert.running]).toEqual([0, 0, 0]);
  });
});
