import {
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import {
  PREPARATION_VERSION,
  preparationKey,
  readPrepared,
  writePrepared,
} from "../../../../worker/engine/graph/prepared-file.ts";
import { readConfig } from "../../../../worker/engine/model/model-config.ts";
import { loadDecoder, prepareDecoder } from "../../../../worker/engine/model/model-folder.ts";
import { moveWeights } from "../../../support/external-weights.ts";
import { largestDifference } from "../../../support/logits.ts";
import { copyOf } from "../../../support/model-folder.ts";

const OPTIONS = { dtype: "fp32", intraOpThreads: 1 } as const;
const graphIn = (folder: string) => join(folder, "onnx/model.onnx");
const preparedIn = (folder: string) => join(folder, "onnx/model.prepared.onnx");
const keyFor = (folder: string, version = PREPARATION_VERSION) =>
  preparationKey(graphIn(folder), readConfig(folder), version);

/** Stores a result that preparing never gives, so that a test sees whether it is used. */
async function storeMarked(folder: string, version = PREPARATION_VERSION): Promise<void> {
  const marked = {
    variant: "original",
    logitsChange: null,
    fallbackReason: "marked",
    hasExactRows: false,
    countsEntries: false,
    newKvOutputs: {},
    bytes: new Uint8Array(),
  } as const;
  await writePrepared(graphIn(folder), await keyFor(folder, version), marked);
}

/** Logits after each of a few tokens; the graph must be prepared. */
async function logits(folder: string, preparedFolder?: string): Promise<Float32Array[]> {
  const decoder = await loadDecoder(folder, { ...OPTIONS, preparedFolder });
  expect(decoder.fallbackReason).toBeNull();
  const sequence = decoder.open();
  return [...(await decoder.score(sequence, [1, 2, 3])), ...(await decoder.score(sequence, [4]))];
}

describe("the result of preparing", () => {
  test("is stored at the first load and used at the next", async () => {
    const folder = copyOf("llama/base");
    const first = await logits(folder);
    expect(await readPrepared(graphIn(folder), await keyFor(folder))).toMatchObject({
      variant: "split",
      fallbackReason: null,
    });
    expect(largestDifference(await logits(folder), first)).toBe(0);
    await storeMarked(folder);
    expect((await loadDecoder(folder, OPTIONS)).fallbackReason).toBe("marked");
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
    ["the stored file", (folder) => writeFileSync(preparedIn(folder), "\x70not a graph")],
  ])("is replaced after a change of %s", async (_, change) => {
    const folder = copyOf("llama/base");
    await storeMarked(folder);
    change(folder);
    await logits(folder);
    expect(await readPrepared(graphIn(folder), await keyFor(folder))).toMatchObject({
      variant: "split",
    });
  });

  test.each([
    ["older", PREPARATION_VERSION - 1],
    ["newer", PREPARATION_VERSION + 1],
  ])("of an %s version of the preparation is replaced", async (_, version) => {
    const folder = copyOf("llama/base");
    await storeMarked(folder, version);
    await logits(folder);
    expect(await readPrepared(graphIn(folder), await keyFor(folder, version))).toBeNull();
    expect(await readPrepared(graphIn(folder), await keyFor(folder))).toMatchObject({
      variant: "split",
    });
  });

  test("is replaced by the command, whatever is stored", async () => {
    const folder = copyOf("llama/base");
    await storeMarked(folder);
    const { variant, logitsChange } = await prepareDecoder(folder, OPTIONS);
    expect(variant).toBe("split");
    expect(logitsChange!.single).toBeLessThan(1e-5);
    expect(logitsChange!.batched).toBeLessThan(1e-5);
    await logits(folder);
  });

  test("is stored in the cache folder if the graph's folder cannot be written, for each graph and config", async () => {
    const [folder, other] = [copyOf("llama/base"), copyOf("gpt2/base")];
    const preparedFolder = join(copyOf("llama/base"), "cache");
    // A directory of that name stands in the way of the file.
    for (const each of [folder, other]) mkdirSync(join(preparedIn(each), "x"), { recursive: true });
    const load = (of: string) => loadDecoder(of, { ...OPTIONS, preparedFolder });
    for (const each of [folder, other]) expect((await load(each)).fallbackReason).toBeNull();
    const stored = readdirSync(preparedFolder);
    expect(stored).toHaveLength(2);
    const key = await keyFor(folder);
    expect(stored).toContain(`${key}.prepared.onnx`);
    expect(await readPrepared(graphIn(folder), key)).toBeNull();
    expect(await readPrepared(graphIn(folder), key, preparedFolder)).toMatchObject({
      variant: "split",
    });
    const marked = { variant: "original", logitsChange: null, fallbackReason: "marked" } as const;
    const result = {
      ...marked,
      hasExactRows: false,
      countsEntries: false,
      newKvOutputs: {},
      bytes: new Uint8Array(),
    };
    await writePrepared(graphIn(folder), key, result, preparedFolder);
    expect((await load(folder)).fallbackReason).toBe("marked");
  });

  test("in the cache folder is not that of the same graph with other weights among the same blobs", async () => {
    const [model, other] = [copyOf("llama/expert"), copyOf("llama/antiexpert")];
    const [cache, preparedFolder] = [join(model, "cache"), join(model, "prepared")];
    mkdirSync(join(cache, "blobs"), { recursive: true });
    // The weights of both files are at the same places.
    for (const folder of [model, other]) moveWeights(graphIn(folder), `${graphIn(folder)}_data`);
    renameSync(graphIn(model), join(cache, "blobs/graph"));
    renameSync(`${graphIn(model)}_data`, join(cache, "blobs/a"));
    renameSync(`${graphIn(other)}_data`, join(cache, "blobs/b"));
    const snapshots = ["a", "b"].map((weights) => {
      const snapshot = join(cache, "snapshots", weights);
      // A directory of that name stands in the way of the file.
      mkdirSync(join(preparedIn(snapshot), "x"), { recursive: true });
      copyFileSync(join(model, "config.json"), join(snapshot, "config.json"));
      symlinkSync("../../../blobs/graph", graphIn(snapshot));
      symlinkSync(`../../../blobs/${weights}`, `${graphIn(snapshot)}_data`);
      return snapshot;
    });
    const expected = [];
    for (const snapshot of snapshots) expected.push(await logits(snapshot));
    expect(largestDifference(expected[0]!, expected[1]!)).toBeGreaterThan(0.1);
    for (const load of ["first", "next"]) {
      for (const [i, snapshot] of snapshots.entries()) {
        const difference = largestDifference(await logits(snapshot, preparedFolder), expected[i]!);
        expect([load, i, difference]).toEqual([load, i, 0]);
      }
    }
    expect(readdirSync(preparedFolder)).toHaveLength(2);
  });

  test("is not stored if the folder cannot be written: loading continues, the command fails", async () => {
    const folder = copyOf("llama/base");
    // A directory of that name stands in the way of the file.
    mkdirSync(join(preparedIn(folder), "blocked"), { recursive: true });
    await logits(folder);
    await expect(prepareDecoder(folder, OPTIONS)).rejects.toThrow(preparedIn(folder));
  });

  test("is still valid after its folder was moved", async () => {
    const folder = copyOf("llama/base");
    const before = await logits(folder);
    renameSync(folder, `${folder}-moved`);
    expect(largestDifference(await logits(`${folder}-moved`), before)).toBe(0);
  });
});

describe("a graph is prepared", () => {
  test("if its file is a link to a file in another folder", async () => {
    const [folder, other] = [copyOf("llama/base"), copyOf("llama/base")];
    rmSync(graphIn(folder));
    symlinkSync(graphIn(other), graphIn(folder));
    expect(largestDifference(await logits(folder), await logits(other))).toBe(0);
  });

  test("if its weights are in a separate file, as in all models above 2 GB", async () => {
    const [folder, original] = [copyOf("llama/base"), copyOf("llama/base")];
    const { length } = readFileSync(graphIn(folder));
    moveWeights(graphIn(folder), join(folder, "onnx/model.onnx_data"));
    expect(readFileSync(graphIn(folder)).length).toBeLessThan(length / 2);
    const expected = await logits(original);
    for (const load of ["first", "next"]) {
      expect([load, largestDifference(await logits(folder), expected)]).toEqual([load, 0]);
    }
  });
});
