import { expect, onTestFinished, test, vi } from "vitest";
import type { TokenLogprob } from "../../../shared/api/token-details.ts";
import { MessageTokens } from "../../../shared/protocols/message-tokens.ts";

const logprob = (id: number, token: string): TokenLogprob => ({ id, token, logprob: -1, top: [] });

test.each([false, true])(
  "the work of a delta does not grow with the text before it (details: %s)",
  (hasDetails) => {
    const encode = vi.spyOn(TextEncoder.prototype, "encode");
    onTestFinished(() => encode.mockRestore());
    const tokens = new MessageTokens();
    const delta = "a word ";
    for (let id = 0; id < 100; id++) {
      if (hasDetails) tokens.push({ logprobs: [logprob(id, delta)] });
      const { logprobs = [] } = tokens.take(delta);
      expect(logprobs.map((entry) => entry.id)).toEqual(hasDetails ? [id] : []);
    }
    const encoded = encode.mock.calls.reduce((sum, [text = ""]) => sum + text.length, 0);
    expect(encoded).toBe((hasDetails ? 2 : 1) * 100 * delta.length);
  },
);

test("a token goes with the delta that it begins in, also after deltas without details", () => {
  const tokens = new MessageTokens();
  tokens.push({ logprobs: [logprob(1, "é"), logprob(2, "b<"), logprob(3, "c")] });
  const take = (delta: string) => tokens.take(delta).logprobs?.map(({ id }) => id);
  expect(take("é")).toEqual([1]);
  expect(take("b")).toEqual([2]);
  expect(take("<")).toBeUndefined();
  expect(take("c")).toEqual([3]);
  expect(take("")).toBeUndefined();
});
