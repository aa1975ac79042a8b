import { expect, test, vi } from "vitest";
import { AppError } from "../../../../shared/api/errors.ts";
import { PromptCache } from "../../../../worker/engine/prepare/prompt-cache.ts";

const never = () => {
  throw new Error("not in the cache");
};

test("keeps the token ids, and the refusal of a prompt", () => {
  const cache = new PromptCache(10_000);
  expect([...cache.get("a", () => [1, 2])]).toEqual([1, 2]);
  expect([...cache.get("a", never)]).toEqual([1, 2]);
  const refuse = vi.fn(() => {
    throw new AppError("context_length_exceeded", "too long");
  });
  expect(() => cache.get("b", refuse)).toThrow("too long");
  expect(() => cache.get("b", refuse)).toThrow("too long");
  expect(refuse).toHaveBeenCalledOnce();
});

test("does not keep an unexpected error", () => {
  const cache = new PromptCache(10_000);
  expect(() => cache.get("a", never)).toThrow("not in the cache");
  expect([...cache.get("a", () => [1])]).toEqual([1]);
});

test("forgets what was used least recently when its bytes are exceeded", () => {
  const ids = (id: number) => Array.from({ length: 100 }, () => id);
  const cache = new PromptCache(2_000);
  for (const [i, key] of ["a", "b", "c"].entries()) cache.get(key, () => ids(i));
  cache.get("a", never);
  cache.get("d", () => ids(3));
  expect(cache.get("a", never)).toHaveLength(100);
  expect(() => cache.get("b", never)).toThrow("not in the cache");
});

test("an entry that is larger than the cache is not kept", () => {
  const cache = new PromptCache(1_000);
  const large = () => Array.from({ length: 1_000 }, () => 1);
  expect(cache.get("a", large)).toHaveLength(1_000);
  expect(() => cache.get("a", never)).toThrow("not in the cache");
});
