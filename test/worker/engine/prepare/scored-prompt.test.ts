/** Which tokens of a prompt are scored. */
import { expect, test } from "vitest";
import {
  checkScoredPrompt,
  scoredPromptTokens,
} from "../../../../worker/engine/prepare/scored-prompt.ts";
import { generation } from "../../../support/generation.ts";

const ids = (...values: number[]) => Int32Array.from(values);

test.each<[string, number[], number[][], number]>([
  ["all but the first, if the prompts are the same", [1, 2, 3], [[1, 2, 3]], 2],
  ["none of a single token", [1], [[1]], 0],
  ["those after which the prompts are the same", [9, 1, 2, 3], [[7, 8, 1, 2, 3]], 3],
  ["not the token with which another prompt begins", [9, 1, 2, 3], [[1, 2, 3]], 2],
  [
    "none if the prompts end with different tokens",
    [1, 2, 3],
    [
      [1, 2, 3],
      [1, 2, 4],
    ],
    0,
  ],
])("%s", (_, base, others, count) => {
  expect(scoredPromptTokens([ids(...base), ...others.map((other) => ids(...other))])).toBe(count);
});

test("a prompt that is longer than the reply has room for is refused", () => {
  const scored = generation({ promptLogprobs: { top: 1, tokensMax: 3 } });
  checkScoredPrompt(scored, 3);
  checkScoredPrompt(generation(), 4);
  expect(() => checkScoredPrompt(scored, 4)).toThrow(
    expect.objectContaining({ code: "invalid_request", param: "prompt" }),
  );
});
