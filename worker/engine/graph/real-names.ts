import { realpathSync } from "node:fs";
import { basename, dirname, join, relative } from "node:path";
import type { GraphFacts } from "./inspect.ts";

/** The names of a graph file and of its weights behind links. */
export interface RealNames {
  readonly name: string;
  /** By the names that the graph has for them; those that differ. */
  readonly externalNames: ReadonlyMap<string, string>;
}

/**
 * Relative to the folder of the graph file itself: onnxruntime reads the weights of a graph in memory from below one folder only,
 * and a link to another one is refused.
 */
export function realNames(
  file: string,
  { externalFiles }: Pick<GraphFacts, "externalFiles">,
): RealNames {
  const real = realpathSync(file);
  const nameOf = (name: string) => relative(dirname(real), realpathSync(join(dirname(file), name)));
  const renamed = externalFiles.filter((name) => nameOf(name) !== name);
  return {
    name: basename(real),
    externalNames: new Map(renamed.map((name) => [name, nameOf(name)])),
  };
}
