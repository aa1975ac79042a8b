/**
 * Certificates against exhaustive knowledge: whenever a draw from a part of a distribution is called proven, every base that
 * fits the known part gives the same token.
 */
import { expect, test } from "vitest";
import { certify } from "../../../../worker/engine/decode/certificate.ts";
import { GumbelNoise } from "../../../../worker/engine/decode/noise.ts";
import { Sampler, type Sampling } from "../../../../worker/engine/decode/sampler.ts";
import { unseenWeightMax } from "../../../../worker/engine/decode/unseen-weight.ts";
import { BaseRow, type TokenLogprob } from "../../../../worker/engine/remote/base-row.ts";
import { sampling } from "../../../support/sampling.ts";

const VOCAB = 24;
const PROMPT = [1, 2, 3];

/** Uniform numbers in [0, 1) from a seed. */
function random(seed: number): () => number {
  const noise = new GumbelNoise(seed);
  let position = 0;
  return () => {
    noise.seek(position++);
    return Math.exp(-Math.exp(-noise.at(0)));
  };
}

const OPTIONS: readonly Partial<Sampling>[] = [
  { temperature: 0 },
  { temperature: 1 },
  { temperature: 0.5 },
  { temperature: 1.8 },
  { topK: 2 },
  { topK: 12, temperature: 0.7 },
  { topP: 0.5 },
  { topP: 0.9, temperature: 1.5 },
  { topP: 0.9, temperature: 0.6 },
  { minP: 0.1 },
  { topK: 6, topP: 0.8, minP: 0.05 },
  { repetitionPenalty: 1.4, topP: 0.8 },
  { repetitionPenalty: 0.7, topP: 0.8, temperature: 1.3 },
  { repetitionPenalty: 2, logitBias: [[7, -30] as const], topP: 0.9 },
  { presencePenalty: 0.5, logitBias: [[5, 2] as const] },
];

/** A base's log-probabilities that have the seen values, and others of the unseen tokens: in turn, some get what they may. */
function otherBase(row: BaseRow, next: () => number): Float32Array {
  const unseen = Array.from({ length: VOCAB }, (_, id) => id).filter((id) => !row.seen.has(id));
  const mostOf = (id: number) => Math.exp(row.unseenMax - row.below(id));
  let left = Math.max(0, 1 - [...row.seen.values()].reduce((sum, lp) => sum + Math.exp(lp), 0));
  const mass = new Map<number, number>();
  const order = unseen.toSorted(() => next() - 0.5);
  for (const [i, id] of order.entries()) {
    const most = mostOf(id);
    const others = order.slice(i + 1).reduce((sum, other) => sum + mostOf(other), 0);
    const least = Math.max(0, left - others);
    const share =
      next() < 0.7
        ? Math.min(most, left)
        : Math.max(Math.min(least, most), next() * Math.min(most, left));
    mass.set(id, share);
    left -= share;
  }
  return Float32Array.from(
    { length: VOCAB },
    (_, id) => row.seen.get(id) ?? Math.log(mass.get(id)!),
  );
}

test("a proven token is the token of every base that fits the row; some are proven with each option", () => {
  const proven = new Map<number, number>();
  const wrong: string[] = [];
  for (let seed = 0; seed < 900; seed++) {
    const next = random(seed);
    const option = seed % OPTIONS.length;
    const sampler = () => {
      const made = new Sampler(sampling({ seed, ...OPTIONS[option] }), PROMPT);
      made.accept(7);
      return made;
    };
    const spread = 1 + 5 * next();
    const logits = Array.from({ length: VOCAB }, () => spread * next());
    const shift = Array.from({ length: VOCAB }, () => 4 * next() - 2);
    const sum = logits.reduce((total, logit) => total + Math.exp(logit), 0);
    const ranked = logits
      .map((logit, id): TokenLogprob => [id, logit - Math.log(sum)])
      .toSorted(([, a], [, b]) => b - a);
    const count = 1 + Math.floor(next() * 16);
    const unlisted = ranked.slice(count);
    // Some are known to be below the others.
    const floor = ranked[count - 1]![1];
    const below = new Map(
      unlisted
        .filter(([id]) => seed % 2 === 1 && id % 3 === 0)
        .map(([id, lp]) => [id, 0.9 * (floor - lp)]),
    );
    const asked = ranked.slice(-Math.floor(3 * next())).filter(([id]) => !below.has(id));
    const row = new BaseRow(VOCAB, ranked.slice(0, count), asked, { below });
    const steered = (base: Float32Array) => base.map((logit, id) => logit + shift[id]!);
    const [filled, upper] = [new Float32Array(VOCAB), new Float32Array(VOCAB)];
    row.fill(filled);
    row.fillUpper(upper);
    const token = sampler().sample(steered(filled));
    const { certified, ask } = certify({
      ...sampler().describe(steered(upper)),
      token,
      isSeen: (id) => row.seen.has(id),
      seenIds: row.seen.keys(),
      unseenMax: row.unseenMax,
      below: (id) => row.below(id),
      unseenAtBound: row.restMax / Math.exp(row.unseenMax),
    });
    if (!certified) {
      if (ask.length === 0 || ask.some((id) => row.seen.has(id))) {
        wrong.push(`seed ${seed}, option ${option}: asks for ${ask.join()}`);
      }
      continue;
    }
    proven.set(option, (proven.get(option) ?? 0) + 1);
    for (let i = 0; i < 12; i++) {
      const drawn = sampler().sample(steered(otherBase(row, next)));
      if (drawn !== token) wrong.push(`seed ${seed}, option ${option}: ${token} and ${drawn}`);
    }
  }
  expect(wrong).toEqual([]);
  expect([...proven.values()].every((count) => count >= 5)).toBe(true);
  expect(proven.size).toBe(OPTIONS.length);
});

/** A draw after the shift, with the tokens 0 and 1 seen. */
function drawOf(sampler: Sampler, upper: Float32Array) {
  const seen = { isSeen: (id: number) => id < 2, seenIds: [0, 1] };
  return { ...sampler.describe(upper), ...seen, token: 0, unseenMax: -5, unseenAtBound: 3 };
}

test("a logit that the repetition penalty divides before a bias makes it negative counts as divided", () => {
  const sampler = new Sampler(
    sampling({ repetitionPenalty: 2, logitBias: [[5, -30] as const] }),
    [5, 6],
  );
  const upper = Float32Array.from({ length: VOCAB }, (_, id) => (id === 5 ? 11 : -9));
  const { isDivided, upper: after } = drawOf(sampler, upper);
  expect(after[5]).toBeLessThan(0);
  expect([5, 6, 7].map(isDivided)).toEqual([true, false, false]);
});

test("the only token that a constraint allows is proven, unseen as it is", () => {
  const only = 9;
  const constraint = {
    isComplete: false,
    mask: (logits: Float32Array) => {
      for (let id = 0; id < VOCAB; id++) if (id !== only) logits[id] = Number.NEGATIVE_INFINITY;
    },
    accept: () => {},
    rewind: () => {},
  };
  const sampler = new Sampler(sampling({ topP: 0.9 }), PROMPT, [], constraint);
  const draw = drawOf(sampler, new Float32Array(VOCAB).fill(-5));
  expect(certify({ ...draw, token: only })).toEqual({ certified: true, ask: [] });
});

test.each([0.5, 1, 1.7])(
  "at temperature %d unseen tokens never weigh more than the bound",
  (temperature) => {
    for (let seed = 0; seed < 60; seed++) {
      const next = random(seed);
      const count = 1 + Math.floor(next() * 12);
      const logs = Array.from({ length: count }, () => 3 * next() - 2);
      const unseenAtBound = next() * count;
      const bound = unseenWeightMax(
        Float64Array.from(logs),
        { unseenAtBound, temperature, penalty: 1 },
        false,
      );
      for (let i = 0; i < 30; i++) {
        let left = unseenAtBound;
        let weight = 0;
        for (const log of logs.toSorted(() => next() - 0.5)) {
          const fraction = Math.min(1, left, i < 5 ? 1 : next());
          left -= fraction;
          weight += Math.exp(log) * fraction ** (1 / temperature);
        }
        expect(weight).toBeLessThanOrEqual(bound * (1 + 1e-9));
      }
    }
  },
);
