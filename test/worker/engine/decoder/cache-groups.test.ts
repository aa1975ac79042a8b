import * as fc from "fast-check";
import { expect, test } from "vitest";
import { bytesOfGroups, divideRows } from "../../../../worker/engine/decoder/cache-groups.ts";

/** A token of a row is one byte, and each rectangle has a spare row. */
const bytesOf = (rows: number, tokens: number) => (rows + 1) * tokens;
const lengths = fc
  .array(fc.integer({ min: 1, max: 20 }), { minLength: 1, maxLength: 7 })
  .map((rows) => rows.toSorted((a, b) => b - a));

/** All ways to divide a row of things into neighbours, as sizes. */
function divisions(count: number): number[][] {
  if (count === 0) return [[]];
  return Array.from({ length: count }, (_, i) => i + 1).flatMap((size) =>
    divisions(count - size).map((rest) => [size, ...rest]),
  );
}

test("no other division reads fewer bytes", () => {
  fc.assert(
    fc.property(lengths, fc.nat(60), (rows, passBytes) => {
      const price = (sizes: number[]) =>
        sizes.length * passBytes + bytesOfGroups(rows, sizes, bytesOf);
      const chosen = divideRows(rows, bytesOf, { passBytes, bytesMax: Infinity });
      expect(price(chosen)).toBe(Math.min(...divisions(rows.length).map(price)));
    }),
  );
});

test("the rectangles fit the limit whenever some division does", () => {
  fc.assert(
    fc.property(lengths, fc.nat(60), fc.nat(200), (rows, passBytes, bytesMax) => {
      const bytes = (sizes: number[]) => bytesOfGroups(rows, sizes, bytesOf);
      const smallest = Math.min(...divisions(rows.length).map(bytes));
      const chosen = bytes(divideRows(rows, bytesOf, { passBytes, bytesMax }));
      expect(chosen).toBeLessThanOrEqual(Math.max(smallest, bytesMax));
    }),
  );
});

test("a long row runs apart once its padding is more than a run", () => {
  const divide = (long: number) =>
    divideRows([long, 2, 2, 2], (rows, tokens) => rows * tokens, {
      passBytes: 30,
      bytesMax: Infinity,
    });
  expect([divide(12), divide(13)]).toEqual([[4], [1, 3]]);
});
