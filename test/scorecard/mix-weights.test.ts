/** Mixed weights of the demo models. */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { mixWeights } from "./mix-weights.ts";

const graph = (name: string) =>
  readFileSync(new URL(`../../infra/models/${name}/onnx/model.onnx`, import.meta.url));
const [from, to] = [graph("antiexpert"), graph("atlas-expert")];
/** Bytes that differ. */
const distance = (some: Uint8Array, others: Uint8Array) =>
  some.reduce((count, byte, i) => count + (byte === others[i] ? 0 : 1), 0);

test("step 0 gives one model, step 1 the other, and noise neither", () => {
  const apart = distance(from, to);
  expect(apart).toBeGreaterThan(100_000);
  expect(distance(mixWeights(from, to, { step: 0 }), from)).toBe(0);
  // from + (to - from) rounds in the last bits.
  expect(distance(mixWeights(from, to, { step: 1 }), to)).toBeLessThan(0.5 * apart);
  expect(distance(mixWeights(to, to, { step: 0, noise: 0.1 }), to)).toBeGreaterThan(apart);
});
