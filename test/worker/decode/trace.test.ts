import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { LOGPROB_MIN, Reporter, type Position } from "../../../worker/decode/trace.ts";
import { softmax } from "../../support/sampling.ts";

const VOCAB = 12;
/** Some tokens are masked, but never all. */
const row = fc
  .array(
    fc.oneof(
      { weight: 9, arbitrary: fc.float({ min: -20, max: 20, noNaN: true }) },
      { weight: 1, arbitrary: fc.constant(Number.NEGATIVE_INFINITY) },
    ),
    { minLength: VOCAB, maxLength: VOCAB },
  )
  .map((logits) => Float32Array.from([0, ...logits.slice(1)]));
/** Steering masks what the base masks. */
const positions: fc.Arbitrary<Position> = fc
  .record({
    base: row,
    expert: row,
    antiexpert: row,
    steered: row,
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

const tracer = new Reporter({ logprobs: null, trace: true }, VOCAB);

/** Log-probabilities, the slow way. */
function logSoftmax(logits: Float32Array): number[] {
  return softmax([...logits]).map(Math.log);
}

describe("the trace", () => {
  test("says what the definitions say", () => {
    fc.assert(
      fc.property(positions, (position) => {
        const { shift } = tracer.report(position);
        const told = (of: Float32Array) => Math.max(LOGPROB_MIN, logSoftmax(of)[position.token]!);
        expect(shift!.base).toBeCloseTo(told(position.base), 3);
        expect(shift!.expert).toBeCloseTo(told(position.expert!), 3);
        expect(shift!.antiexpert).toBeCloseTo(told(position.antiexpert!), 3);
        expect(shift!.steered).toBeCloseTo(told(position.steered), 3);
        const [base, steered] = [logSoftmax(position.base), logSoftmax(position.steered)];
        const kl = steered.reduce(
          (sum, log, i) => (log === -Infinity ? sum : sum + Math.exp(log) * (log - base[i]!)),
          0,
        );
        expect(shift!.kl).toBeCloseTo(kl, 3);
        expect(shift!.baseToken).toBe(position.baseToken);
      }),
    );
  });

  test("tells the three largest changes of probability each way, largest first", () => {
    fc.assert(
      fc.property(positions, (position) => {
        const { shift } = tracer.report(position);
        const [base, steered] = [softmax([...position.base]), softmax([...position.steered])];
        const changes = steered.map((probability, id) => probability - base[id]!);
        for (const [told, sign] of [[shift!.promoted, 1] as const, [shift!.demoted, -1] as const]) {
          const largest = changes.map((change) => sign * change).filter((change) => change > 1e-4);
          const expected = largest.sort((a, b) => b - a).slice(0, 3);
          expect(told.length).toBeGreaterThanOrEqual(expected.length);
          for (const [i, { id, value }] of told.entries()) {
            expect(value).toBeCloseTo(changes[id]!, 3);
            expect(sign * value).toBeCloseTo(expected[i] ?? 0, 3);
          }
        }
      }),
    );
  });

  test("of a position that is not steered costs no comparison and shows none", () => {
    const base = Float32Array.of(1, 2, 3);
    const only = new Reporter({ logprobs: null, trace: true }, 3);
    const position = { base, expert: null, antiexpert: null, steered: base, alpha: 0 };
    expect(only.report({ ...position, token: 2, baseToken: 2 }).shift).toEqual({
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
  const reports = [0, 3, 20].map(
    (count) => [count, new Reporter({ logprobs: count, trace: false }, VOCAB)] as const,
  );

  test.each(reports)("tell the token's and %i of the likeliest", (count, reporter) => {
    fc.assert(
      fc.property(positions, (position) => {
        const { logprobs, shift } = reporter.report(position);
        const reference = logSoftmax(position.steered);
        expect(shift).toBeUndefined();
        expect(logprobs!.logprob).toBeCloseTo(Math.max(LOGPROB_MIN, reference[position.token]!), 3);
        const possible = reference.filter((log) => log > -Infinity).sort((a, b) => b - a);
        expect(logprobs!.top).toHaveLength(Math.min(count, possible.length));
        for (const [i, { id, value }] of logprobs!.top.entries()) {
          expect(value).toBeCloseTo(reference[id]!, 3);
          expect(value).toBeCloseTo(possible[i]!, 3);
        }
      }),
    );
  });

  test("are the same with and without a trace", () => {
    const both = new Reporter({ logprobs: 3, trace: true }, VOCAB);
    fc.assert(
      fc.property(positions, (position) => {
        const alone = reports[1]![1].report(position).logprobs!;
        expect(both.report(position).logprobs).toEqual(alone);
      }),
    );
  });
});
