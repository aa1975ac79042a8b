import { mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { loadDecoder, prepareDecoder, readConfig } from "../../../worker/model/files.ts";
import {
  GRAPH_WEIGHT,
  MODEL_GRAPH,
  nestedMessage,
  weightInFile,
  wholeFields,
} from "../../../worker/model/onnx-wire.ts";
import {
  preparationKey,
  readPrepared,
  writePrepared,
} from "../../../worker/model/prepared-file.ts";
import { largestDifference } from "../../support/logits.ts";
import { copyOf } from "../../support/model-folder.ts";

const OPTIONS = { dtype: "fp32", intraOpThreads: 1 } as const;
const graphIn = (folder: string) => join(folder, "onnx/model.onnx");
const preparedIn = (folder: string) => join(folder, "onnx/model.prepared.onnx");
const keyOf = (folder: string) => preparationKey(graphIn(folder), readConfig(folder));

/** Keeps a verdict in the folder that no code gives, to see whether it is read. */
async function mark(folder: string): Promise<void> {
  const plain = { form: "plain", change: null, why: "marked", newRows: {} } as const;
  await writePrepared(graphIn(folder), await keyOf(folder), { ...plain, bytes: new Uint8Array() });
}

/** Logits after a short text. */
async function logits(folder: string): Promise<Float32Array[]> {
  const decoder = await loadDecoder(folder, OPTIONS);
  expect(decoder.slowBecause).toBeNull();
  const sequence = decoder.open();
  return [...(await decoder.score(sequence, [1, 2, 3])), ...(await decoder.score(sequence, [4]))];
}

describe("what preparing came to", () => {
  test("is kept at the first load and read at the next", async () => {
    const folder = copyOf("llama/base");
    const first = await logits(folder);
    expect(await readPrepared(graphIn(folder), await keyOf(folder))).toMatchObject({
      form: "split",
      why: null,
    });
    expect(largestDifference(await logits(folder), first)).toBe(0);
    await mark(folder);
    expect((await loadDecoder(folder, OPTIONS)).slowBecause).toBe("marked");
  });

  test.each<[string, (folder: string) => void]>([
    [
      "the graph",
      (folder) => writeFileSync(graphIn(folder), readFileSync(graphIn(copyOf("gpt2/base")))),
    ],
    [
      "config.json",
      (folder) => writeFileSync(join(folder, "config.json"), JSON.stringify({ head_dim: 9 })),
    ],
    [
      "itself, as a broken disk does",
      (folder) => writeFileSync(preparedIn(folder), "\x70no graph"),
    ],
  ])("is made again after a change of %s", async (_, change) => {
    const folder = copyOf("llama/base");
    await mark(folder);
    change(folder);
    await logits(folder);
    expect(await readPrepared(graphIn(folder), await keyOf(folder))).toMatchObject({
      form: "split",
    });
  });

  test("is made again by the command", async () => {
    const folder = copyOf("llama/base");
    await mark(folder);
    const { form, change } = await prepareDecoder(folder, OPTIONS);
    expect(form).toBe("split");
    expect(change!.alone).toBeLessThan(1e-5);
    expect(change!.together).toBeLessThan(1e-5);
    await logits(folder);
  });

  test("need not be kept: a load goes on, the command says so", async () => {
    const folder = copyOf("llama/base");
    mkdirSync(join(preparedIn(folder), "in the way"), { recursive: true });
    await logits(folder);
    await expect(prepareDecoder(folder, OPTIONS)).rejects.toThrow(preparedIn(folder));
  });

  test("goes with its folder", async () => {
    const folder = copyOf("llama/base");
    const before = await logits(folder);
    renameSync(folder, `${folder}-moved`);
    expect(largestDifference(await logits(`${folder}-moved`), before)).toBe(0);
  });
});

describe("a graph is prepared", () => {
  test("that is a link to a file elsewhere", async () => {
    const [folder, elsewhere] = [copyOf("llama/base"), copyOf("llama/base")];
    rmSync(graphIn(folder));
    symlinkSync(graphIn(elsewhere), graphIn(folder));
    expect(largestDifference(await logits(folder), await logits(elsewhere))).toBe(0);
  });

  test("whose weights are in a file of their own, as all above 2 GB", async () => {
    const [folder, whole] = [copyOf("llama/base"), copyOf("llama/base")];
    const bytes = readFileSync(graphIn(folder));
    writeFileSync(join(folder, "onnx/model.onnx_data"), bytes);
    const file = { name: "model.onnx_data", bytes };
    const model = Array.from(wholeFields(bytes), ({ field, whole, content }) => {
      if (field !== MODEL_GRAPH) return whole;
      const graph = Array.from(wholeFields(content), (part) => {
        const isWeight = part.field === GRAPH_WEIGHT;
        return (isWeight && weightInFile(part.content, file)) || part.whole;
      });
      return nestedMessage(MODEL_GRAPH, graph);
    });
    writeFileSync(graphIn(folder), Buffer.concat(model));
    expect(readFileSync(graphIn(folder)).length).toBeLessThan(bytes.length / 2);
    const expected = await logits(whole);
    for (const load of ["first", "next"]) {
      expect([load, largestDifference(await logits(folder), expected)]).toEqual([load, 0]);
    }
  });
});
