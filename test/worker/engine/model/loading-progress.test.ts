/** How far the loading of models is, as a worker reports it. */
import { statSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { LoadingProgress } from "../../../../worker/engine-client/loading-progress.ts";
import { loadEnsembles } from "../../../../worker/engine/model/load-ensembles.ts";
import type { EnsembleEntry } from "../../../../worker/engine/model/manifest.ts";
import { ensembleEntry, modelFolder } from "../../../support/model-folder.ts";

async function progressOf(...ensembles: EnsembleEntry[]): Promise<LoadingProgress[]> {
  const reports: LoadingProgress[] = [];
  await loadEnsembles(
    { ensembles },
    { intraOpThreads: 1, onProgress: (progress) => reports.push(progress) },
  );
  return reports;
}

test("each graph counts once, with its bytes, before it loads and after the last one", async () => {
  const [base, expert, antiexpert] = [
    modelFolder(),
    modelFolder({ eos: 3 }),
    modelFolder({ eos: 4 }),
  ];
  const models = { expert, antiexpert };
  const reports = await progressOf(
    ensembleEntry(base, { id: "one", ...models }),
    ensembleEntry(base, { id: "two", ...models }),
  );
  const bytes = [base, expert, antiexpert].map(
    (folder) => statSync(join(folder, "onnx/model.onnx")).size,
  );
  const after = (count: number) => bytes.slice(0, count).reduce((sum, size) => sum + size, 0);
  const all = { of: 3, bytesOf: after(3) };
  const of = (loaded: number, model: string | null) => ({
    ...all,
    stage: "load",
    loaded,
    bytes: after(loaded),
    model,
  });
  const loads = [base, expert, antiexpert].flatMap((model, loaded) => [
    of(loaded, model),
    { ...of(loaded, model), prepares: true },
  ]);
  expect(reports).toEqual([...loads, of(3, null)]);
});

test("a model that does not exist counts as nothing, and loading it says why", async () => {
  const entry = ensembleEntry(modelFolder(), { expert: "/nowhere" });
  await expect(progressOf(entry)).rejects.toThrow(/^Ensemble tiny: \/nowhere/);
});
