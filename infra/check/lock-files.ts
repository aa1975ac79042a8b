/**
 * Checks that every package in the lock files has its hash: npm installs one without a hash whatever the registry sends.
 * npm may leave out the hash of a package for another platform.
 * Run alone: `npm run check -- lock-files`.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";

const ROOT = join(import.meta.dirname, "../..");
const LOCK_FILES = ["package-lock.json", "test/bench/peers/package-lock.json"];

interface LockFile {
  readonly packages: Readonly<
    Record<string, { readonly integrity?: string; readonly link?: boolean }>
  >;
}

/** The packages without a hash. Folders of this repository and links to them have none. */
export function packagesWithoutHash({ packages }: LockFile): string[] {
  return Object.entries(packages)
    .filter(([path, { integrity, link }]) => path.includes("node_modules/") && !link && !integrity)
    .map(([path]) => path);
}

if (import.meta.main) {
  for (const file of LOCK_FILES) {
    const lock = JSON.parse(readFileSync(join(ROOT, file), "utf8")) as LockFile;
    for (const path of packagesWithoutHash(lock)) {
      console.error(`${file}: ${path} has no integrity; npm view PACKAGE@VERSION dist.integrity`);
      process.exitCode = 1;
    }
  }
}
