/** Alpha schedules. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { alphaAt, scheduleAfter, type Knot } from "../../../shared/jobs/alpha-schedule.ts";

const knots = fc
  .uniqueArray(fc.tuple(fc.nat(60), fc.double({ min: 0, max: 4, noNaN: true })), {
    minLength: 1,
    maxLength: 6,
    selector: ([position]) => position,
  })
  .map((all): Knot[] => all.sort(([a], [b]) => a - b));

test("alpha is linear between knots, and constant outside", () => {
  fc.assert(
    fc.property(knots, fc.nat(80), (schedule, position) => {
      const before = schedule.filter(([at]) => at <= position).at(-1) ?? schedule[0]!;
      const after = schedule.find(([at]) => at > position) ?? schedule.at(-1)!;
      const span = after[0] - before[0];
      const way = span <= 0 ? 0 : (position - before[0]) / span;
      const expected = before[1] * (1 - way) + after[1] * way;
      expect(alphaAt(schedule, position)).toBeCloseTo(
        position < before[0] ? schedule[0]![1] : expected,
        9,
      );
    }),
  );
});

test("at a knot, alpha is exactly the knot's", () => {
  fc.assert(
    fc.property(knots, (schedule) => {
      for (const [position, alpha] of schedule) expect(alphaAt(schedule, position)).toBe(alpha);
    }),
  );
});

test("the rest of a schedule has the same alphas, counted from its own start", () => {
  fc.assert(
    fc.property(knots, fc.nat(70), fc.nat(20), (schedule, start, position) => {
      const rest = scheduleAfter(schedule, start);
      expect(alphaAt(rest, position)).toBeCloseTo(alphaAt(schedule, start + position), 9);
    }),
  );
});
