/** Log-probabilities and traces against slow reference implementations. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  LOGPROB_MIN,
  TokenAnalyzer,
  type DecodedPosition,
} from "../../../../worker/engine/decode/token-analysis.ts";
import { softmax } from "../../../support/sampling.ts";

const VOCAB = 12;
/** Some tokens are masked, but never all. */
const logits = fc
  .array(
    fc.oneof(
      { weight: 9, arbitrary: fc.float({ min: -20, max: 20, noNaN: true }) },
      { weight: 1, arbitrary: fc.constant(Number.NEGATIVE_INFINITY) },
    ),
    { minLength: VOCAB, maxLength: VOCAB },
  )
  .map((logits) => Float32Array.from([0, ...logits.slice(1)]));
/** Tokens that the base masks are masked in the steered logits, too. */
const positions: fc.Arbitrary<DecodedPosition> = fc
  .record({
    base: logits,
    expert: logits,
    antiexpert: logits,
    steered: logits,
    alpha: fc.double({ min: 0.1, max: 4, noNaN: true }),
    token: fc.nat(VOCAB - 1),
    baseToken: fc.nat(VOCAB - 1),
  })
  .map((position) => ({
    ...position,
    steered: position.steered.map((logit, i) =>
      position.base[i] === -Infinity ? -Infinity : logit,
    ),
  }));

const analyzer = new TokenAnalyzer({ logprobs: null, trace: true });

/** Reference for log-probabilities. */
function logSoftmax(logits: Float32Array): number[] {
  return softmax([...logits]).map(Math.log);
}

describe("the trace", () => {
  test("follows the definitions", () => {
    fc.assert(
      fc.property(positions, (position) => {
        const { trace } = analyzer.analyze(position);
        const expected = (of: Float32Array) =>
          Math.max(LOGPROB_MIN, logSoftmax(of)[position.token]!);
        expect(trace!.base).toBeCloseTo(expected(position.base), 3);
        expect(trace!.expert).toBeCloseTo(expected(position.expert!), 3);
        expect(trace!.antiexpert).toBeCloseTo(expected(position.antiexpert!), 3);
        expect(trace!.steered).toBeCloseTo(expected(position.steered), 3);
        const [base, steered] = [logSoftmax(position.base), logSoftmax(position.steered)];
        const kl = steered.reduce(
          (sum, log, i) => (log === -Infinity ? sum : sum + Math.exp(log) * (log - base[i]!)),
          0,
        );
        expect(trace!.kl).toBeCloseTo(kl, 3);
        expect(trace!.baseToken).toBe(position.baseToken);
      }),
    );
  });

  test("lists the three largest changes of probability in each direction, largest first", () => {
    fc.assert(
      fc.property(positions, (position) => {
        const { trace } = analyzer.analyze(position);
        const [base, steered] = [softmax([...position.base]), softmax([...position.steered])];
        const changes = steered.map((probability, id) => probability - base[id]!);
        for (const [listed, sign] of [
          [trace!.promoted, 1] as const,
          [trace!.demoted, -1] as const,
        ]) {
          const largest = changes.map((change) => sign * change).filter((change) => change > 1e-4);
          const expected = largest.sort((a, b) => b - a).slice(0, 3);
          expect(listed.length).toBeGreaterThanOrEqual(expected.length);
          for (const [i, { id, value }] of listed.entries()) {
            expect(value).toBeCloseTo(changes[id]!, 3);
            expect(sign * value).toBeCloseTo(expected[i] ?? 0, 3);
          }
        }
      }),
    );
  });

  test("of a position that is not steered shows no change", () => {
    const base = Float32Array.of(1, 2, 3);
    const only = new TokenAnalyzer({ logprobs: null, trace: true });
    const position = { base, expert: null, antiexpert: null, steered: base, alpha: 0 };
    expect(only.analyze({ ...position, token: 2, baseToken: 2 }).trace).toEqual({
      alpha: 0,
      base: -0.4076,
      expert: null,
      antiexpert: null,
      steered: -0.4076,
      gain: 0,
      kl: 0,
      baseToken: 2,
      promoted: [],
      demoted: [],
    });
  });
});

describe("log-probabilities", () => {
  const analyzers = [0, 3, 20].map(
    (count) => [count, new TokenAnalyzer({ logprobs: count, trace: false })] as const,
  );

  test.each(analyzers)(
    "are those of the token and of the %i most likely tokens",
    (count, analyzer) => {
      fc.assert(
        fc.property(positions, (position) => {
          const { logprobs, trace } = analyzer.analyze(position);
          const reference = logSoftmax(position.steered);
          expect(trace).toBeUndefined();
          expect(logprobs!.logprob).toBeCloseTo(
            Math.max(LOGPROB_MIN, reference[position.token]!),
            3,
          );
          const possible = reference.filter((log) => log > -Infinity).sort((a, b) => b - a);
          expect(logprobs!.top).toHaveLength(Math.min(count, possible.length));
          for (const [i, { id, value }] of logprobs!.top.entries()) {
            expect(value).toBeCloseTo(reference[id]!, 3);
            expect(value).toBeCloseTo(possible[i]!, 3);
          }
        }),
      );
    },
  );

  test("are the same with and without a trace", () => {
    const both = new TokenAnalyzer({ logprobs: 3, trace: true });
    fc.assert(
      fc.property(positions, (position) => {
        const alone = analyzers[1]![1].analyze(position).logprobs!;
        expect(both.analyze(position).logprobs).toEqual(alone);
      }),
    );
  });
});
