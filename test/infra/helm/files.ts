/** The files of the chart, and the manifest for Kustomize that is made from them. */
import { createHash } from "node:crypto";
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";

export const ROOT = join(import.meta.dirname, "../../..");
export const CHART = join(ROOT, "infra/helm");
export const KUSTOMIZE = join(ROOT, "infra/deploy/kustomize/trimtab.yaml");

/** The first line of the manifest: it names the state of the chart that it was made from. */
export function kustomizeHeader(): string {
  const hash = createHash("sha256");
  const files = ["templates/**/*.*", "monitoring/*.*", "Chart.yaml", "values.yaml"];
  const paths = files.flatMap((pattern) => globSync(pattern, { cwd: CHART })).toSorted();
  const values = join(import.meta.dirname, "values/default.yaml");
  for (const path of [...paths.map((path) => join(CHART, path)), values]) {
    hash.update(readFileSync(path));
  }
  return `# Made by \`npm run chart\` from infra/helm (${hash.digest("hex").slice(0, 16)}), for the namespace trimtab. Change it by patches.\n`;
}
