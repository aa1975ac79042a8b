/** The sign election of several pairs: which shifts count where the pairs disagree. */
import { expect, test } from "vitest";
import { addElectedShifts } from "../../../../worker/engine/decode/sign-election.ts";

const A = Float32Array.of(2, 1, 0, -1);
const B = Float32Array.of(0, 1, 2, 0);

test("pairs that cancel each other shift nothing", () => {
  const out = new Float32Array(4);
  addElectedShifts(out, { experts: [A, B], antiexperts: [B, A], weights: [1, 1] });
  expect([...out]).toEqual([0, 0, 0, 0]);
});

test("a constant on the logits of a model changes nothing", () => {
  const [plain, moved] = [new Float32Array(4), new Float32Array(4)];
  const flat = new Float32Array(4);
  addElectedShifts(plain, { experts: [A, B], antiexperts: [flat, flat], weights: [1, 0.5] });
  const higher = A.map((logit) => logit + 16);
  addElectedShifts(moved, { experts: [higher, B], antiexperts: [flat, flat], weights: [1, 0.5] });
  for (const [id, shift] of moved.entries()) expect(shift).toBeCloseTo(plain[id]!, 5);
});

test("a token that one pair forbids is forbidden, and one that is allowed and forbidden is undefined", () => {
  const out = new Float32Array(4);
  const forbidden = Float32Array.of(0, -Infinity, 0, 0);
  addElectedShifts(out, { experts: [A, forbidden], antiexperts: [B, B], weights: [1, 1] });
  expect(out[1]).toBe(-Infinity);
  addElectedShifts(out, {
    experts: [A, forbidden],
    antiexperts: [forbidden, B],
    weights: [1, 1],
  });
  expect(out[1]).toBe(NaN);
});
