/**
 * Checks a manifest before anything is loaded: everything that a worker would refuse or run slowly, all problems at once and in
 * seconds. This is the folder's main file. The folder reads the files that a worker reads, but the weights; it starts no
 * onnxruntime session.
 */
import { ROLES } from "../model/ensemble-tokenizers.ts";
import { readManifest } from "../model/manifest.ts";
import type { SharedTokenizers } from "../model/tokenizer.ts";
import { checkDisk } from "./disk.ts";
import { checkEnsemble, errorText, type Add } from "./ensemble.ts";
import { checkMemory, type Resources } from "./memory.ts";
import type { CheckReport, EnsembleReport, Problem } from "./report.ts";

export async function checkManifest(file: string, resources: Resources): Promise<CheckReport> {
  const problems: Problem[] = [];
  const ensembles: EnsembleReport[] = [];
  const shared: SharedTokenizers = new Map();
  try {
    for (const entry of readManifest(file).ensembles) {
      const add: Add = (severity, role, message) =>
        problems.push({ severity, ensemble: entry.id, role, message });
      ensembles.push(await checkEnsemble(entry, { add, shared, resources }));
    }
  } catch (error) {
    problems.push({ severity: "error", ensemble: null, role: null, message: errorText(error) });
  }
  const graphs = ensembles.flatMap(({ models }) =>
    ROLES.flatMap((role) => models[role].graph ?? []),
  );
  const { memory, problems: lacking } = checkMemory(ensembles, shared, resources);
  problems.push(...lacking, ...checkDisk(graphs));
  const ok = problems.every(({ severity }) => severity === "warning");
  return { manifest: file, ok, problems, ensembles, memory };
}
