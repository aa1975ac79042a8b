/** Installs the other engines into this folder, once. They are not dependencies of the project, because only the bench needs them. */
import { spawnSync } from "node:child_process";
import { existsSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const folder = dirname(fileURLToPath(import.meta.url));

/** @returns null, or the reason why the other engines are not available; the bench then runs without them */
export function installPeers(): string | null {
  const stamp = join(folder, "node_modules/.package-lock.json");
  const lock = join(folder, "package-lock.json");
  if (existsSync(stamp) && statSync(stamp).mtimeMs >= statSync(lock).mtimeMs) return null;
  console.log(
    "peers: installing transformers.js and node-llama-cpp into test/bench/peers (once; about a minute)",
  );
  const npm = spawnSync(
    "npm",
    ["install", "--no-save", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
    {
      cwd: folder,
      stdio: "inherit",
    },
  );
  return npm.status === 0 ? null : "npm install failed";
}
