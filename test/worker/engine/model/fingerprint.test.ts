import {
  appendFileSync,
  copyFileSync,
  openSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { basename, join } from "node:path";
import { expect, test } from "vitest";
import { findGraph } from "../../../../worker/engine/model/graph-files.ts";
import { AdapterHosts } from "../../../../worker/engine/model/adapter-hosts.ts";
import { modelFingerprint } from "../../../../worker/engine/model/fingerprint.ts";
import { adapterFolder, LLAMA_MODULES } from "../../../support/adapters.ts";
import { loadEnsembles } from "../../../../worker/engine/model/load-ensembles.ts";
import { ensembleEntry, modelFolder, VECTORS } from "../../../support/model-folder.ts";
import type { EnsembleEntry } from "../../../../worker/engine/model/manifest.ts";

const load = async (entry: EnsembleEntry) =>
  (await loadEnsembles({ ensembles: [entry] }, { intraOpThreads: 1 })).get(entry.id)!;
const fingerprintOf = async (entry: EnsembleEntry) => (await load(entry)).card.fingerprint;

test("the same models in other folders, with other ids and limits of alpha, have the same fingerprint", async () => {
  const fingerprint = await fingerprintOf(ensembleEntry(modelFolder()));
  expect(fingerprint).toMatch(/^[0-9a-f]{64}$/);
  const other = ensembleEntry(modelFolder(), { id: "other", alpha: 0.5, alphaMax: 3 });
  expect(await fingerprintOf(other)).toBe(fingerprint);
});

test("whatever changes tokens or logits changes the fingerprint", async () => {
  const plain = modelFolder();
  const entry = ensembleEntry(plain);
  const other = modelFolder({ eos: 3 });
  const fingerprints = await Promise.all(
    [
      entry,
      ensembleEntry(other),
      ensembleEntry(plain, { expert: other }),
      ensembleEntry(plain, { antiexpert: other }),
      ensembleEntry(modelFolder({ chatTemplate: "{{ messages[0].content }}" })),
      { ...entry, base: { ...entry.base, promptTemplate: "word1 {{ prompt }}" } },
      { ...entry, base: { ...entry.base, chatTemplate: join(plain, "tokenizer.json") } },
    ].map(fingerprintOf),
  );
  expect(new Set(fingerprints).size).toBe(fingerprints.length);
});

test("other weights change the fingerprint, in a file that is hashed in part too", () => {
  const folder = modelFolder();
  const weights = join(folder, "onnx", "weights.bin");
  const entry = { path: folder, dtype: "fp32" } as const;
  // A sparse file: it needs no space on disk.
  writeFileSync(weights, "");
  truncateSync(weights, 300 * 2 ** 20);
  const facts = { externalFiles: ["weights.bin"], quantizesActivations: false };
  const first = modelFingerprint(entry, facts);
  expect(modelFingerprint(entry, facts)).toBe(first);
  const file = openSync(weights, "r+");
  const block = new Uint8Array(2 ** 20).fill(1);
  writeSync(file, block, 0, block.length, 150 * 2 ** 20);
  const second = modelFingerprint(entry, facts);
  appendFileSync(weights, "x");
  const third = modelFingerprint(entry, facts);
  expect(new Set([first, second, third]).size).toBe(3);
});

test("another version of the preparation changes the fingerprint where it changes logits", () => {
  const entry = { path: modelFolder(), dtype: "fp32" } as const;
  const fingerprints = (quantizesActivations: boolean) =>
    [8, 9].map((version) =>
      modelFingerprint(entry, { externalFiles: [], quantizesActivations }, version),
    );
  expect(new Set(fingerprints(true)).size).toBe(2);
  expect(new Set(fingerprints(false)).size).toBe(1);
});

const PLAIN = modelFolder();
test.each([
  ["llama/base", "fp32", true],
  ["llama/base", "int8", true],
  // Its fused attention cannot be made exact.
  ["gqa/base", "int8", false],
  ["gqa/base", "q4", false],
] as const)("an ensemble over %s in %s: reproducible: %s", async (name, dtype, reproducible) => {
  const folder = modelFolder();
  const source = join(VECTORS, name);
  const graph = findGraph({ path: source, dtype });
  copyFileSync(graph, join(folder, "onnx", basename(graph)));
  copyFileSync(join(source, "config.json"), join(folder, "config.json"));
  const entry = ensembleEntry(folder, { expert: PLAIN, antiexpert: PLAIN });
  const { card, warnings } = await load({ ...entry, base: { ...entry.base, dtype } });
  expect(card.reproducible).toBe(reproducible);
  const ofText = warnings.filter((warning) => warning.includes("another text"));
  const expected = expect.stringContaining("tiny: the same request may give another text");
  expect(ofText).toEqual(reproducible ? [] : [expected]);
});

test("adding another adapter to an antiexpert leaves the fingerprints of its adapters", () => {
  const folders = [1, 2].map((seed) => adapterFolder({ modules: LLAMA_MODULES, seed }));
  const ensembles = folders.map((adapter) => {
    const entry = ensembleEntry(join(VECTORS, "llama/antiexpert"));
    return { ...entry, expert: { ...entry.expert, adapter } };
  });
  const [one, two] = [ensembles.slice(0, 1), ensembles].map(
    (all) => new AdapterHosts(all, { intraOpThreads: 1 }),
  );
  const [first, second] = ensembles.map(({ expert }) => expert);
  expect(two!.fingerprintOf(first!, "host")).toBe(one!.fingerprintOf(first!, "host"));
  expect(two!.fingerprintOf(second!, "host")).not.toBe(two!.fingerprintOf(first!, "host"));
});
