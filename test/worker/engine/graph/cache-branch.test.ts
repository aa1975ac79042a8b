import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { loadDecoder, prepareDecoder } from "../../../../worker/engine/model/model-folder.ts";
import { largestDifference } from "../../../support/logits.ts";
import { changeNodes, mergedGraph } from "../../../support/changed-graph.ts";
import { copyOf, VECTORS } from "../../../support/model-folder.ts";

const OPTIONS = { dtype: "fp32", intraOpThreads: 1 } as const;

test.each(["gemma3_text/base"])(
  "%s as decoder_model_merged.onnx is prepared like its graph, and has its logits",
  async (name) => {
    const folder = copyOf(name);
    const file = join(folder, "onnx/model.onnx");
    writeFileSync(file, mergedGraph(readFileSync(file)));
    expect(await prepareDecoder(folder, OPTIONS)).toMatchObject({ variant: "split" });
    const rows = [];
    for (const path of [folder, join(VECTORS, name)]) {
      const decoder = await loadDecoder(path, OPTIONS);
      const sequence = decoder.open();
      await decoder.prefill(sequence, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
      rows.push(await decoder.score(sequence, [10, 11]));
    }
    expect(largestDifference(rows[0]!, rows[1]!)).toBeLessThan(1e-4);
  },
);

test("a branch that has no causal mask for several new tokens is refused", async () => {
  const folder = copyOf("llama/base");
  const file = join(folder, "onnx/model.onnx");
  const withoutCausalMask = changeNodes(readFileSync(file), (node) => {
    const [keys] = node.inputs;
    return node.op === "LessOrEqual" ? { ...node, inputs: [keys!, keys!] } : node;
  });
  writeFileSync(file, mergedGraph(withoutCausalMask));
  await expect(loadDecoder(folder, OPTIONS)).rejects.toThrow(
    `${file}: its branch with a cache takes one new token only`,
  );
});
