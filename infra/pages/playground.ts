/** Bundles the playground's script and style sheet (edge/play/client) for browsers. */
import { join } from "node:path";
import { buildSync } from "esbuild";

const CLIENT = join(import.meta.dirname, "../../edge/play/client");

export function playgroundFiles(): { readonly script: string; readonly style: string } {
  const { outputFiles } = buildSync({
    entryPoints: [join(CLIENT, "main.ts"), join(CLIENT, "style.css")],
    outdir: CLIENT,
    bundle: true,
    minify: true,
    write: false,
    format: "iife",
    target: "es2022",
  });
  const textOf = (ending: string) => outputFiles.find(({ path }) => path.endsWith(ending))!.text;
  return { script: textOf(".js"), style: textOf(".css") };
}
