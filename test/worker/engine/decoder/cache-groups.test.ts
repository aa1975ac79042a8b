import * as fc from "fast-check";
import { expect, test } from "vitest";
import { bytesOfGroups, divideRows } from "../../../../worker/engine/decoder/cache-groups.ts";

/** With and without a spare row in each rectangle. */
const tokenBytes = fc.constantFrom({ row: 1, spare: 1 }, { row: 1, spare: 0 });
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
    fc.property(lengths, tokenBytes, fc.nat(60), (rows, bytes, passBytes) => {
      const price = (sizes: number[]) =>
        sizes.length * passBytes + bytesOfGroups(rows, sizes, bytes);
      const chosen = divideRows(rows, bytes, { passBytes, bytesMax: Infinity });
      expect(price(chosen)).toBe(Math.min(...divisions(rows.length).map(price)));
    }),
  );
});

test("the rectangles fit the limit whenever some division does", () => {
  fc.assert(
    fc.property(
      lengths,
      tokenBytes,
      fc.nat(60),
      fc.nat(200),
      (rows, bytes, passBytes, bytesMax) => {
        const taken = (sizes: number[]) => bytesOfGroups(rows, sizes, bytes);
        const smallest = Math.min(...divisions(rows.length).map(taken));
        const chosen = taken(divideRows(rows, bytes, { passBytes, bytesMax }));
        expect(chosen).toBeLessThanOrEqual(Math.max(smallest, bytesMax));
      },
    ),
  );
});

test("a long row runs apart once its padding is more than a run", () => {
  const divide = (long: number) =>
    divideRows([long, 2, 2, 2], { row: 1, spare: 0 }, { passBytes: 30, bytesMax: Infinity });
  expect([divide(12), divide(13)]).toEqual([[4], [1, 3]]);
});

test("rows of the same length are divided at once, however many there are and whatever the limit is", () => {
  const rows = [2, 1].flatMap((tokens) => Array<number>(5_000).fill(tokens));
  for (const [bytesMax, sizes] of [
    [Infinity, [10_000]],
    [15_000, [5_000, 5_000]],
    [0, [5_000, 5_000]],
  ] as const) {
    const limits = { passBytes: 10_000, bytesMax };
    expect(divideRows(rows, { row: 1, spare: 0 }, limits)).toEqual(sizes);
  }
});
