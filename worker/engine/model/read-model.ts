/** Reads the model of a file in a form that onnxruntime runs and that can be rewritten. */
import { realpathSync } from "node:fs";
import { dirname } from "node:path";
import type { GraphInMemory } from "../decoder/session.ts";
import { inFloat32 } from "../graph/bfloat16.ts";
import { inspectGraph } from "../graph/inspect.ts";
import { readModelFile } from "../graph/model-file.ts";
import { wholeCacheModel } from "../graph/prepare.ts";

export const folderOf = (file: string) => dirname(realpathSync(file));

/** The model of a file in a form that can be rewritten. */
export interface ReadModel {
  readonly bytes: Uint8Array;
  /** The graph that runs: the exported one, or a form that onnxruntime and the decoders support. */
  readonly runs: string | GraphInMemory;
  /** Why the exported one does not run; null if it does. */
  readonly problem: string | null;
}

export function readModel(file: string): ReadModel {
  const exported = readModelFile(file);
  const float32 = inFloat32(exported);
  const bytes = float32 ?? exported;
  const whole = wholeCacheModel(bytes);
  // Weights inside the file are mapped too if the model refers to them: onnxruntime reads a file as a whole.
  const isWhole = inspectGraph(file).externalFiles.length === 0;
  const runs = whole ?? float32 ?? (isWhole ? exported : null);
  return {
    bytes,
    runs: runs ? { bytes: runs, folder: folderOf(file) } : file,
    problem: whole
      ? "its caches of a window cannot be replaced"
      : float32
        ? "it is in bfloat16 and cannot be prepared, so export it in float32 or float16"
        : null,
  };
}
