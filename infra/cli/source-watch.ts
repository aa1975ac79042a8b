/** Watches the project's TypeScript files, for commands that restart or reload when one changes. */
import { watch } from "node:fs";
import { join } from "node:path";

const ROOT = join(import.meta.dirname, "../..");

/**
 * Watches the TypeScript files of folders.
 * @param folders relative to the repository's root
 * @param onChange called with the path of each file that has changed, relative to the root
 * @returns a function that stops watching
 */
export function watchSources(
  folders: readonly string[],
  onChange: (path: string) => void,
): () => void {
  const watchers = folders.map((folder) =>
    watch(join(ROOT, folder), { recursive: true }, (_, name) => {
      if (name?.endsWith(".ts")) onChange(`${folder}/${name}`);
    }),
  );
  return () => {
    for (const watcher of watchers) watcher.close();
  };
}
