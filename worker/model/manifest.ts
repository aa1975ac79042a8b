/** The manifest: which ensembles a worker serves, and from which model folders. */
import { dirname, resolve } from "node:path";
import * as v from "valibot";
import { LIMITS } from "../../shared/limits.ts";
import { DTYPES, readJson } from "./files.ts";

const alpha = v.pipe(v.number(), v.minValue(0), v.maxValue(LIMITS.alphaMax));

const ModelEntry = v.strictObject({
  /** Model folder, relative to the manifest. */
  path: v.pipe(v.string(), v.minLength(1)),
  dtype: v.optional(v.picklist(DTYPES), "fp32"),
  /** Jinja file, relative to the manifest, instead of the folder's own chat template. */
  chatTemplate: v.optional(v.string()),
  /** Jinja text over `prompt` that plain prompts are put into. */
  promptTemplate: v.optional(v.string()),
});

const EnsembleEntry = v.strictObject({
  /** What a request calls `model`. */
  id: v.pipe(v.string(), v.minLength(1), v.maxLength(LIMITS.modelCharsMax)),
  description: v.optional(v.string(), ""),
  /** Steering strength of requests that name none, and the highest that they may name. */
  alpha: v.optional(alpha, 1),
  alphaMax: v.optional(alpha, 2),
  base: ModelEntry,
  expert: ModelEntry,
  antiexpert: ModelEntry,
});

const Manifest = v.strictObject({
  ensembles: v.pipe(
    v.array(EnsembleEntry),
    v.minLength(1),
    v.check(
      (ensembles) => new Set(ensembles.map(({ id }) => id)).size === ensembles.length,
      "Two ensembles have the same id",
    ),
  ),
});
export type ModelEntry = v.InferOutput<typeof ModelEntry>;
export type EnsembleEntry = v.InferOutput<typeof EnsembleEntry>;
export type Manifest = v.InferOutput<typeof Manifest>;

/** Reads a manifest and makes its paths absolute; throws with file, field and reason. */
export function readManifest(file: string): Manifest {
  const parsed = v.safeParse(Manifest, readJson(file));
  if (!parsed.success) {
    const [issue] = parsed.issues;
    throw new Error(`${file}: ${v.getDotPath(issue) ?? "(root)"}: ${issue.message}`);
  }
  const folder = dirname(file);
  const located = (entry: ModelEntry): ModelEntry => ({
    ...entry,
    path: resolve(folder, entry.path),
    ...(entry.chatTemplate && { chatTemplate: resolve(folder, entry.chatTemplate) }),
  });
  return {
    ensembles: parsed.output.ensembles.map((ensemble) => ({
      ...ensemble,
      base: located(ensemble.base),
      expert: located(ensemble.expert),
      antiexpert: located(ensemble.antiexpert),
    })),
  };
}
