import { basename, join } from "node:path";
import { expect, test } from "vitest";
import { readManifest } from "../../worker/model/manifest.ts";
import { VECTORS } from "../support/model-folder.ts";
import { goldenFolders, replay, type GoldenResult } from "../vectors/golden.ts";

const random = goldenFolders(VECTORS).map((folder) => [basename(folder), folder] as const);

test.each(random)(
  "%s: the tokens and steered logits are those that PyTorch computes",
  async (_, folder) => expectExact(await replay(folder)),
);

const { ensembles } = readManifest("infra/models/ensembles.json");

test.each(ensembles.map((ensemble) => [ensemble.id, ensemble] as const))(
  "%s, as it is served: the tokens and steered logits are those that PyTorch computes",
  async (id, { base, expert, antiexpert }) => {
    const folders = { base: base.path, expert: expert.path, antiexpert: antiexpert.path };
    expectExact(await replay(join(VECTORS, "demo", id), folders));
  },
);

function expectExact(results: readonly GoldenResult[]): void {
  expect(results.length).toBeGreaterThan(0);
  for (const { name, expected, tokens, logitsDifference } of results) {
    expect({ name, tokens }).toEqual({ name, tokens: expected });
    expect(logitsDifference).toBeLessThan(1e-3);
  }
}
