import { expect, test } from "vitest";
import { rankCorrelation, rankCorrelationInterval } from "./rank-correlation.ts";

test("is 1 for the same order, -1 for the reverse, and counts equal values as their mean rank", () => {
  expect(rankCorrelation([1, 5, 9], [2, 3, 100])).toBeCloseTo(1, 12);
  expect(rankCorrelation([1, 5, 9], [3, 2, 1])).toBeCloseTo(-1, 12);
  // R: cor(c(1, 2, 2, 4), c(1, 3, 2, 4), method = "spearman")
  expect(rankCorrelation([1, 2, 2, 4], [1, 3, 2, 4])).toBeCloseTo(0.9487, 4);
  expect(rankCorrelation([1, 1, 1], [1, 2, 3])).toBeNaN();
});

test("the interval of equal orders is 1 to 1, and that of unrelated values contains 0", () => {
  const values = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
  const [low, high] = rankCorrelationInterval(values, [5, 9, 2, 8, 1, 10, 3, 7, 4, 6]);
  expect(low).toBeLessThan(-0.3);
  expect(high).toBeGreaterThan(0.3);
  const same = rankCorrelationInterval(values, values);
  for (const bound of same) expect(bound).toBeCloseTo(1, 12);
});
