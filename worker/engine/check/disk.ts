/** Whether prepared graphs can be stored beside the originals. */
import { accessSync, constants, statfsSync } from "node:fs";
import { dirname } from "node:path";
import type { GraphReport, Problem } from "./report.ts";

/** A prepared graph has the nodes and small weights of the original; 5 MB for 80 layers. */
const PREPARED_BYTES = 16 * 2 ** 20;

export function checkDisk(graphs: readonly GraphReport[]): Problem[] {
  const folders = Map.groupBy(
    graphs.filter(({ isCompared, form }) => !isCompared && form.variant !== "original"),
    ({ file }) => dirname(file),
  );
  return [...folders].flatMap(([folder, waiting]) => {
    const reason = obstacle(folder, new Set(waiting.map(({ file }) => file)).size);
    if (reason === null) return [];
    const message = `${folder} ${reason}, so its graphs are prepared again at each start of a worker`;
    return [{ severity: "warning" as const, ensemble: null, role: null, message }];
  });
}

/** Why files cannot be stored in a folder; null if they can. */
function obstacle(folder: string, files: number): string | null {
  try {
    accessSync(folder, constants.W_OK);
  } catch {
    return "cannot be written";
  }
  const { bavail, bsize } = statfsSync(folder);
  return bavail * bsize < files * PREPARED_BYTES ? "has no space left on its disk" : null;
}
