/** Golden vectors: the decode loop against PyTorch. */
import { basename, join } from "node:path";
import { expect, test } from "vitest";
import { readManifest } from "../../../../worker/engine/model/manifest.ts";
import { VECTORS } from "../../../support/model-folder.ts";
import { goldenFolders, replay, type GoldenResult } from "../../../vectors/golden.ts";

const random = goldenFolders(VECTORS).map((folder) => [basename(folder), folder] as const);

test.each(random)(
  "%s: the tokens and steered logits are those that PyTorch computes",
  async (_, folder) => expect(await replay(folder)).toSatisfy(isExact),
);

/**
 * The same weights in graphs with fused attention. Positions are counted by the operator, passed to it, or computed
 * outside of it.
 */
test.each([
  ["qwen3", { base: "gqa/base", expert: "gqa/expert", antiexpert: "gqa/antiexpert" }],
  ["mixed", { base: "gqa/window", expert: "mixed/expert", antiexpert: "mixed/antiexpert" }],
] as const)(
  "%s with GroupQueryAttention: the tokens and steered logits are those that PyTorch computes",
  async (name, { base, expert, antiexpert }) => {
    const folders = {
      base: join(VECTORS, base),
      expert: join(VECTORS, expert),
      antiexpert: join(VECTORS, antiexpert),
    };
    expect(await replay(join(VECTORS, name), folders)).toSatisfy(isExact);
  },
);

const { ensembles } = readManifest("infra/models/ensembles.json");

test.each(ensembles.map((ensemble) => [ensemble.id, ensemble] as const))(
  "%s, as in the manifest: the tokens and steered logits are those that PyTorch computes",
  async (id, { base, expert, antiexpert }) => {
    const folders = { base: base.path, expert: expert.path, antiexpert: antiexpert.path };
    expect(await replay(join(VECTORS, "demo", id), folders)).toSatisfy(isExact);
  },
);

/** Same tokens in every case, and every steered logit within the tolerance, both generated and scored. */
function isExact(results: readonly GoldenResult[]): boolean {
  const same = ({ expected, tokens }: GoldenResult) => expected.join() === tokens.join();
  return (
    results.length > 0 &&
    results.every(
      (r) => same(r) && (r.logitsDifference ?? 0) < 1e-3 && (r.scoreDifference ?? 0) < 1e-3,
    )
  );
}
