/** The verdict in words, for pairs of each kind. */
import { describe, expect, test } from "vitest";
import type { Difference, Estimate, Prediction } from "./comparison.ts";
import { judge, judgeUnlabelled, type Evidence } from "./verdict.ts";

const about = (value: number, half = 3): Estimate => ({
  value,
  interval: [value - half, value + half],
});
const gain = (value: number, half = 3): Difference => ({
  ...about(value, half),
  questionsNeeded: 1_000,
});
/** A pair that is worth serving. */
const evidence = (changes: Partial<Evidence> = {}): Evidence => ({
  questions: 300,
  expert: about(50),
  proxyMinusBase: gain(40),
  proxyMinusExpert: gain(20),
  alpha: { best: 1, configured: 1 },
  bestMinusConfigured: null,
  steering: { intervention: 10, kl: 0.5 },
  damage: { questions: 100, base: about(50), proxy: about(49), broken: about(4), same: about(90) },
  proxyMinusTuned: null,
  ...changes,
});
const all = (changes: Partial<Evidence>) => {
  const { decision, headline, reasons } = judge(evidence(changes));
  return [decision, headline, ...reasons].join("\n");
};

test("a pair that gains over base and expert is served with the best alpha", () => {
  expect(judge(evidence())).toEqual({
    decision: "serve",
    headline: "Serve it with alpha 1.",
    reasons: [
      "It gains +40.0 points (+37.0 to +43.0) over the base and +20.0 points (+17.0 to +23.0) over the expert alone",
      "Steering breaks 4.0% (1.0 to 7.0) of the control questions that the base answers right",
    ],
  });
});

describe("do not", () => {
  test.each<[string, Partial<Evidence>, RegExp]>([
    [
      "if the expert alone is as good",
      { proxyMinusExpert: gain(-2) },
      /^do not\n.*\nThe expert alone is as good, and cheaper. .*answers 50.0% right$/m,
    ],
    [
      "if steering gains nothing",
      { proxyMinusBase: gain(-2) },
      /^do not\n.*\nSteering gains -2.0 points \(-5.0 to \+1.0\) over the base alone/m,
    ],
    [
      "if base and pair disagree",
      { proxyMinusBase: gain(1), steering: { intervention: 35, kl: 2 } },
      /^do not\n.*\nBase and pair disagree. Steering changes 35.0% .* above 20% tend to fail/m,
    ],
    [
      "if the pair does nothing",
      { proxyMinusBase: gain(0, 0), steering: { intervention: 0, kl: 0 } },
      /^do not\n.*\nThe pair does nothing: .*Expert and antiexpert may be the same model/m,
    ],
  ])("%s", (_, changes, expected) => {
    expect(all(changes)).toMatch(expected);
  });
});

describe("too small to tell", () => {
  test("with fewer than 30 questions, whatever they say", () => {
    expect(all({ questions: 29 })).toBe(
      "too small to tell\nToo small to tell: 29 questions, and 30 are the least.",
    );
  });

  test.each<[string, Partial<Evidence>, RegExp]>([
    ["the gain over the base", { proxyMinusBase: gain(3, 5) }, /over the base alone. About 1000/],
    ["the gain over the expert", { proxyMinusExpert: gain(3, 5) }, /About 1000 questions would/],
    ["many questions", { proxyMinusExpert: gain(3, 5), questions: 2_000 }, /may be chance/],
  ])("if the interval contains zero: %s", (_, changes, expected) => {
    expect(all(changes)).toMatch(/^too small to tell/);
    expect(all(changes)).toMatch(expected);
  });
});

describe("notes", () => {
  test.each<[string, Partial<Evidence>, RegExp]>([
    [
      "a lower alpha is better",
      { alpha: { best: 0.5, configured: 1 }, bestMinusConfigured: gain(9) },
      /Serve it with alpha 0.5.\n[^]*A lower alpha is better: 0.5 gains \+9.0 .* Do not serve it with 1$/m,
    ],
    [
      "another alpha may be better",
      { alpha: { best: 1.5, configured: 1 }, bestMinusConfigured: gain(1) },
      /may be chance/,
    ],
    [
      "what it breaks",
      { damage: { questions: 9, base: null, proxy: null, broken: about(60), same: about(1) } },
      /^Serve it with alpha 1, for such questions only.\n[^]*Steering breaks 60.0%/m,
    ],
    ["damage is unknown", { damage: null }, /Damage was not measured/],
    ["it changes much, but gains", { steering: { intervention: 50, kl: 2 } }, /Here they gain$/m],
    ["the tuned base", { proxyMinusTuned: gain(-6) }, /tuned itself it is -6.0 points/],
  ])("%s", (_, changes, expected) => {
    expect(all(changes)).toMatch(expected);
  });
});

describe("without answers", () => {
  const prediction = (changes: Partial<Prediction>): Prediction => ({
    prompts: 200,
    steering: { intervention: 10, kl: 0.5 },
    confidence: { base: 50, expert: 60, proxy: 70 },
    predictedGain: about(20),
    sameAsExpert: about(50),
    sameAsBase: about(50),
    ...changes,
  });

  test.each<[string, Partial<Prediction>, string, RegExp]>([
    ["a predicted gain", {}, "serve", /estimate from the models' confidence, not a measurement/],
    ["no effect", { steering: { intervention: 0, kl: 0 } }, "do not", /does nothing/],
    ["a predicted loss", { predictedGain: about(-5) }, "do not", /-5.0 points/],
    ["nothing clear", { predictedGain: about(1) }, "too small to tell", /\+1.0 points/],
    ["many changes", { steering: { intervention: 50, kl: 3 } }, "serve", /above 20% tend to fail/],
  ])("%s", (_, changes, decision, expected) => {
    const verdict = judgeUnlabelled(prediction(changes));
    expect(verdict.decision).toBe(decision);
    expect(verdict.reasons.join("\n")).toMatch(expected);
  });
});
