/** Ensembles that are added and removed while sequences run. */
import { copyFileSync, cpSync, truncateSync } from "node:fs";
import { basename, join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { Batch } from "../../../../worker/engine/loop/batch.ts";
import type { Sequence } from "../../../../worker/engine/loop/sequence.ts";
import { findGraph } from "../../../../worker/engine/model/graph-files.ts";
import { LoadedEnsembles } from "../../../../worker/engine/model/load-ensembles.ts";
import type { EnsembleEntry, ModelEntry } from "../../../../worker/engine/model/manifest.ts";
import { adapterFolder } from "../../../support/adapters.ts";
import { generateRequest, NO_EOS } from "../../../support/decode-loop.ts";
import { ensembleEntry, modelFolder, VECTORS } from "../../../support/model-folder.ts";
import { folderOf } from "../../../support/tokenizers.ts";

const folder = modelFolder();
const graph = findGraph({ path: join(VECTORS, "llama/base"), dtype: "fp16" });
copyFileSync(graph, join(folder, "onnx", basename(graph)));
const modules = { "model.layers.0.mlp.down_proj": [64, 32] } as const;
const adapters = [1, 2, 3].map((seed) => adapterFolder({ modules, seed }));

/** Base and antiexpert are one model, which has the adapter. */
function entryOf(id: string, dtype: ModelEntry["dtype"], adapter?: string): EnsembleEntry {
  const entry = ensembleEntry(folder, { id });
  const model = { ...entry.antiexpert, dtype };
  const expert = { ...model, ...(adapter !== undefined && { adapter }) };
  return { ...entry, base: model, expert, antiexpert: model };
}

const opened: LoadedEnsembles[] = [];
async function load(...ensembles: EnsembleEntry[]): Promise<LoadedEnsembles> {
  const loaded = await LoadedEnsembles.load({ ensembles }, { intraOpThreads: 1 });
  opened.push(loaded);
  return loaded;
}
afterAll(() => Promise.all(opened.map((loaded) => loaded.close())));

/** Runs generations together; `meanwhile` is called after ten steps and takes some of the others. */
async function tokensOf(
  loaded: LoadedEnsembles,
  ids: readonly string[],
  meanwhile?: () => Promise<unknown>,
): Promise<number[][]> {
  const batch = new Batch({ speculate: false });
  const add = (id: string, i: number) =>
    batch.add(
      generateRequest({
        models: loaded.ensembles.get(id)!.models,
        sampling: { logitBias: [NO_EOS] },
        prompts: { base: [i + 1, 8], expert: [i + 2, 9], antiexpert: [i + 3, 7, 5] },
        maxTokens: 40,
      }),
    )!;
  const tokens = new Map<Sequence, number[]>(ids.map((id, i) => [add(id, i), []]));
  let change: Promise<unknown> | undefined;
  for (let step = 1; batch.size > 0; step++) {
    for (const result of await batch.step()) {
      if ("error" in result) throw result.error;
      tokens.get(result.sequence)!.push(result.token);
    }
    if (step === 10) change = meanwhile?.();
    // The last ten steps come after the change.
    if (step === 30) await change;
  }
  return [...tokens.values()];
}

test("adapters come and go while sequences run, whose tokens stay", async () => {
  // With caches in 16 bits, which pass between threads as integers.
  const dtype = "fp16";
  const [a, b] = [entryOf("a", dtype, adapters[0]), entryOf("b", dtype, adapters[1])];
  const plain = entryOf("plain", dtype);
  const both = await load(plain, a, b);
  const expected = await tokensOf(both, ["plain", "a"]);
  const expectedOfB = await tokensOf(both, ["b"]);
  expect(expected[0]).not.toEqual(expected[1]);

  // It is loaded without adapters.
  const loaded = await load(plain);
  const [alone] = await tokensOf(loaded, ["plain"], () => loaded.add([a]));
  expect(alone).toEqual(expected[0]);
  expect(await tokensOf(loaded, ["plain", "a"], () => loaded.add([b]))).toEqual(expected);
  const { expert } = loaded.ensembles.get("a")!.models;
  expect(await tokensOf(loaded, ["b"], () => loaded.remove(["a"]))).toEqual([expectedOfB[0]]);
  // The adapter of "b" has the first place now, which that of "a" had.
  await expect(expert.prefill(expert.open(), [1])).rejects.toThrow("does not have the adapter 0");
  for (const id of ["plain", "b"]) {
    expect(loaded.ensembles.get(id)!.card).toEqual({
      ...both.ensembles.get(id)!.card,
      createdAtMs: expect.any(Number) as number,
    });
  }
  expect([...loaded.ensembles.keys()]).toEqual(["plain", "b"]);
});

test("an adapter stays while an ensemble has it over a copy of the model in another folder", async () => {
  const copy = join(folderOf({}), "copy");
  cpSync(folder, copy, { recursive: true });
  const [a, b] = ["a", "b"].map((id) => entryOf(id, "fp32", adapters[0])) as [
    EnsembleEntry,
    EnsembleEntry,
  ];
  const ofCopy = {
    ...b,
    expert: { ...b.expert, path: copy },
    antiexpert: { ...b.antiexpert, path: copy },
  };
  const loaded = await load(a, ofCopy);
  expect(loaded.ensembles.get("b")!.models).toEqual(loaded.ensembles.get("a")!.models);
  const before = await tokensOf(loaded, ["b"]);
  await loaded.remove(["a"]);
  expect(await tokensOf(loaded, ["b"])).toEqual(before);
});

test("what cannot be loaded changes nothing", async () => {
  const a = entryOf("a", "fp32", adapters[0]);
  const loaded = await load(a);
  const before = await tokensOf(loaded, ["a"]);
  const broken = adapterFolder({ modules, seed: 4 });
  truncateSync(join(broken, "adapter_model.safetensors"), 100);
  const b = entryOf("b", "fp32", adapters[1]);
  await expect(loaded.add([b, entryOf("c", "fp32", broken)])).rejects.toThrow(
    /Ensemble b, c: .*adapter_model\.safetensors: it is not a safetensors file, or it is truncated/,
  );
  const other = entryOf("other", "int8", adapters[1]);
  await expect(loaded.add([other])).rejects.toThrow("is not loaded: restart needed");
  const wide = adapterFolder({ modules: { "model.layers.0.mlp.down_proj": [16, 32] } });
  await expect(loaded.add([entryOf("wide", "fp32", wide)])).rejects.toThrow(
    "has 16 inputs and 32 outputs",
  );
  expect([...loaded.ensembles.keys()]).toEqual(["a"]);
  expect(await tokensOf(loaded, ["a"])).toEqual(before);
  // The files of an adapter that is in use must not change: its rows would go on with other weights.
  cpSync(adapters[2]!, adapters[0]!, { recursive: true });
  await expect(loaded.add([b])).rejects.toThrow("have changed since they were loaded");
});
