import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { PrefixCache } from "../../../../worker/engine/decoder/prefix-cache.ts";
import { FakeDecoder, noiseLogits } from "../../../support/fake-decoder.ts";

const BLOCK = 16;
const model = () => new FakeDecoder(noiseLogits(1, 4));

async function storePrompt(
  cache: PrefixCache,
  tenant: string,
  decoder: FakeDecoder,
  ids: number[],
) {
  const sequence = decoder.open();
  await decoder.prefill(sequence, ids);
  cache.store(tenant, decoder, sequence, ids);
  decoder.close(sequence);
}

/** Number of tokens restored for a prompt; their KV rows must be those of its beginning. */
function restoredTokens(
  cache: PrefixCache,
  tenant: string,
  decoder: FakeDecoder,
  ids: number[],
): number {
  const sequence = decoder.open();
  const count = cache.restore(tenant, decoder, sequence, ids);
  const rows = decoder.kvRows!.read(sequence, 0, count).get("ids")!;
  expect([...rows]).toEqual(ids.slice(0, count));
  expect(decoder.cacheBytes).toBe(count);
  decoder.close(sequence);
  return count;
}

/** Slow reference: the longest common prefix of two prompts, in whole blocks, without the last token of the second. */
function sharedTokens(stored: readonly number[], ids: readonly number[]): number {
  const whole = stored.length - (stored.length % BLOCK);
  let same = 0;
  while (same < Math.min(whole, ids.length - 1) && stored[same] === ids[same]) same++;
  return same - (same % BLOCK);
}

/** Prompts with common prefixes: few different tokens, repeated for a block. */
const prompt = fc
  .array(fc.tuple(fc.nat(1), fc.constantFrom(1, 3, BLOCK, BLOCK)), { minLength: 1, maxLength: 6 })
  .map((runs) => runs.flatMap(([id, length]) => Array<number>(length).fill(id)));
const visit = fc.record({
  tenant: fc.constantFrom("acme", "acme 1", "1/acme"),
  model: fc.nat(1),
  ids: prompt,
});

describe("a prompt reuses", () => {
  test("the prefix that it shares with an earlier prompt of its tenant and model, and nothing else", async () => {
    const visits = fc.array(visit, { maxLength: 30 });
    await fc.assert(
      fc.asyncProperty(visits, async (visits) => {
        const cache = new PrefixCache(1e6);
        const models = [model(), model()];
        for (const [i, { tenant, model, ids }] of visits.entries()) {
          const before = visits.slice(0, i).filter((v) => v.tenant === tenant && v.model === model);
          const longest = Math.max(0, ...before.map((earlier) => sharedTokens(earlier.ids, ids)));
          expect(restoredTokens(cache, tenant, models[model]!, ids)).toBe(longest);
          await storePrompt(cache, tenant, models[model]!, ids);
        }
      }),
    );
  });

  test("nothing if the budget is 0, or if the KV cache cannot be read", async () => {
    const ids = Array<number>(40).fill(1);
    const none = new PrefixCache(0);
    const decoder = model();
    await storePrompt(none, "acme", decoder, ids);
    expect([restoredTokens(none, "acme", decoder, ids), none.bytes]).toEqual([0, 0]);
    const cache = new PrefixCache(1e6);
    const passthrough = Object.assign(model(), { kvRows: null });
    await storePrompt(cache, "acme", passthrough, ids);
    expect(cache.restore("acme", passthrough, passthrough.open(), ids)).toBe(0);
  });
});

describe("the budget", () => {
  test("is never exceeded, and counts the stored bytes", async () => {
    const visits = fc.array(visit, { maxLength: 40 });
    await fc.assert(
      fc.asyncProperty(visits, fc.integer({ min: 1, max: 200 }), async (visits, bytesMax) => {
        const cache = new PrefixCache(bytesMax);
        const models = [model(), model()];
        for (const { tenant, model, ids } of visits) {
          await storePrompt(cache, tenant, models[model]!, ids);
          expect(cache.bytes).toBeLessThanOrEqual(bytesMax);
          // The prompt that was just stored is found, as far as it fits.
          const fits = Math.floor(bytesMax / BLOCK) * BLOCK;
          const expected = Math.min(fits, sharedTokens(ids, [...ids, 9]));
          expect(restoredTokens(cache, tenant, models[model]!, [...ids, 9])).toBe(expected);
        }
      }),
    );
  });

  test("evicts the least recently used blocks, the ends of prompts before their beginnings", async () => {
    const decoder = model();
    const cache = new PrefixCache(6 * BLOCK);
    const of = (...blocks: number[]) => blocks.flatMap((id) => Array<number>(BLOCK).fill(id));
    const found = (ids: number[]) => restoredTokens(cache, "acme", decoder, [...ids, 9]) / BLOCK;
    await storePrompt(cache, "acme", decoder, of(1, 2, 3));
    await storePrompt(cache, "acme", decoder, of(4, 5, 6));
    expect(found(of(1, 2, 3))).toBe(3);
    await storePrompt(cache, "acme", decoder, of(1, 7));
    expect(cache.bytes).toBe(6 * BLOCK);
    expect([found(of(4, 5, 6)), found(of(1, 2, 3)), found(of(1, 7))]).toEqual([2, 3, 2]);
  });
});
