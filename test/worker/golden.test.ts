import { basename } from "node:path";
import { expect, test } from "vitest";
import { VECTORS } from "../support/model-folder.ts";
import { goldenFolders, replay } from "../vectors/golden.ts";

const folders = goldenFolders(VECTORS).map((folder) => [basename(folder), folder] as const);

test.each(folders)(
  "%s: the tokens and steered logits are those that PyTorch computes",
  async (_, folder) => {
    const results = await replay(folder);
    expect(results.length).toBeGreaterThan(0);
    for (const { name, expected, tokens, logitsDifference } of results) {
      expect({ name, tokens }).toEqual({ name, tokens: expected });
      expect(logitsDifference).toBeLessThan(1e-3);
    }
  },
);
