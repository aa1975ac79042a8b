/** Bundles the script and the style sheet of a page of the edge (edge/play, edge/admin) for browsers. */
import { join } from "node:path";
import { buildSync } from "esbuild";

export function pageFiles(page: "play" | "admin"): {
  readonly script: string;
  readonly style: string;
} {
  const client = join(import.meta.dirname, "../../edge", page, "client");
  const { outputFiles } = buildSync({
    entryPoints: [join(client, "main.ts"), join(client, "style.css")],
    outdir: client,
    bundle: true,
    minify: true,
    write: false,
    format: "iife",
    target: "es2022",
  });
  const textOf = (ending: string) => outputFiles.find(({ path }) => path.endsWith(ending))!.text;
  return { script: textOf(".js"), style: textOf(".css") };
}
