/** Statistics of the scorecard: shares, paired differences, gap closed, steering, damage and the prediction without answers. */
import { describe, expect, test } from "vitest";
import type { Answer } from "../eval/answer.ts";
import { damageOf, difference, gapClosed, predict, share, steeringOf } from "./comparison.ts";

/** The first `right` of `count` answers are right. */
const first = (right: number, count = 100) => Array.from({ length: count }, (_, i) => i < right);
const answer = (changes: Partial<Answer> = {}): Answer => ({
  text: "a",
  stopped: true,
  tokens: 2,
  logprob: 0,
  changed: 0,
  kl: 0,
  drafted: 0,
  accepted: 0,
  ...changes,
});

test("a share has Wilson's interval, also at the ends", () => {
  const { value, interval } = share(first(8, 10));
  expect(value).toBe(80);
  // R: prop.test(8, 10, correct = FALSE)
  expect(interval.map((bound) => Math.round(bound * 10) / 10)).toEqual([49, 94.3]);
  expect(share(first(0, 10)).interval[1]).toBeGreaterThan(25);
});

describe("a difference", () => {
  test("is that of the shares, and is paired: few differing questions give a narrow interval", () => {
    const nested = difference(first(60), first(50));
    expect(nested.value).toBe(10);
    expect(nested.interval[0]).toBeGreaterThan(0);
    const crossed = difference(first(60), first(50).toReversed());
    expect(crossed.value).toBe(10);
    expect(crossed.interval[0]).toBeLessThan(0);
  });

  test("says how many questions it takes: (1.96 + 0.84)^2 * differing / effect^2", () => {
    expect(difference(first(60), first(50)).questionsNeeded).toBe(79);
    expect(difference(first(51), first(50)).questionsNeeded).toBe(784);
    expect(difference(first(50), first(50)).questionsNeeded).toBe(Infinity);
  });
});

test("the gap closed is a part of what tuning the base gains; there is none where tuning gains nothing", () => {
  expect(gapClosed(first(20), first(60), first(100))?.value).toBe(50);
  expect(gapClosed(first(20), first(60), first(20))).toBeNull();
});

test("steering counts tokens, not answers", () => {
  const answers = [answer({ tokens: 9, changed: 1, kl: 2 }), answer({ tokens: 1, changed: 1 })];
  expect(steeringOf(answers)).toEqual({ intervention: 20, kl: 0.2 });
});

describe("damage", () => {
  const texts = { base: ["a", "b ", "c"], proxy: ["a", "b", "x"] };

  test("is the part of the base's right answers that are lost", () => {
    const right = { base: [true, true, false], proxy: [true, false, true] };
    const { broken, same, base, proxy } = damageOf(right, texts);
    expect(broken?.value).toBe(50);
    expect(same.value).toBeCloseTo(66.7, 1);
    expect([base?.value, proxy?.value]).toEqual([base?.value, base?.value]);
  });

  test("is not known without answers, or if the base is never right", () => {
    expect(damageOf(null, texts)).toMatchObject({ broken: null, base: null, questions: 3 });
    const never = { base: [false, false, false], proxy: [true, false, true] };
    expect(damageOf(never, texts).broken).toBeNull();
  });
});

test("without answers the predicted gain is the confidence that steering adds; an answer without an end has none", () => {
  const half = answer({ logprob: 2 * Math.log(0.5) });
  const prediction = predict({
    base: [half, answer({ stopped: false, text: "b" })],
    expert: [answer({ text: "x" }), answer({ text: "z" })],
    proxy: [answer({ text: "x" }), answer({ text: "b" })],
  });
  expect(prediction.confidence).toEqual({ base: 25, expert: 100, proxy: 100 });
  expect(prediction.predictedGain.value).toBe(75);
  expect([prediction.sameAsExpert.value, prediction.sameAsBase.value]).toEqual([50, 50]);
});
