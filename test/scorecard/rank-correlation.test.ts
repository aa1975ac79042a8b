import { expect, test } from "vitest";
import { rankCorrelation } from "./rank-correlation.ts";

test("is 1 for the same order, -1 for the reverse, and counts equal values as their mean rank", () => {
  expect(rankCorrelation([1, 5, 9], [2, 3, 100])).toBeCloseTo(1, 12);
  expect(rankCorrelation([1, 5, 9], [3, 2, 1])).toBeCloseTo(-1, 12);
  // R: cor(c(1, 2, 2, 4), c(1, 3, 2, 4), method = "spearman")
  expect(rankCorrelation([1, 2, 2, 4], [1, 3, 2, 4])).toBeCloseTo(0.9487, 4);
  expect(rankCorrelation([1, 1, 1], [1, 2, 3])).toBeNaN();
});
