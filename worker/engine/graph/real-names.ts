import { realpathSync } from "node:fs";
import { basename, dirname, join, relative } from "node:path";
import type { GraphFacts } from "./inspect.ts";
import type { ModelFile } from "./onnx-wire.ts";

/**
 * The names of a graph file and of its weights behind links, relative to the folder of the graph itself: onnxruntime reads the
 * weights of a prepared graph from below one folder only, and a link to another one is refused.
 */
export function realNames(
  file: string,
  { externalFiles }: Pick<GraphFacts, "externalFiles">,
): Required<Pick<ModelFile, "name" | "externalNames">> {
  const real = realpathSync(file);
  const nameOf = (name: string) => relative(dirname(real), realpathSync(join(dirname(file), name)));
  const renamed = externalFiles.filter((name) => nameOf(name) !== name);
  return {
    name: basename(real),
    externalNames: new Map(renamed.map((name) => [name, nameOf(name)])),
  };
}
