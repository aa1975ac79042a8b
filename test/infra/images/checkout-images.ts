/** A step of `npm test`: builds images with the packages of this checkout and runs them (infra/README.md, "Images"). */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { neverIfAborted } from "../../../infra/check/steps.ts";
import { stopOnInterrupt } from "../../../infra/stack/interrupt.ts";
import { stopAllChildren } from "../../../infra/stack/process.ts";
import { errorText } from "../../../infra/stack/user-error.ts";
import { BASE, buildFromCheckout, checkoutName, makeBase } from "./checkout-build.ts";
import { CONTROL, EDGE } from "./image-list.ts";
import { podmanProblem } from "./podman.ts";
import { runImage } from "./run-image.ts";

const IDLE_MS = 0;
const CLEAN_UP_MS = 60_000;
const STAGING = join(import.meta.dirname, "../../../.trimtab");
const IMAGES = [EDGE, CONTROL];

mkdirSync(STAGING, { recursive: true });
const folder = mkdtempSync(join(STAGING, "images-"));
const interrupted = stopOnInterrupt(cleanUp);
const { failed, summary } = await checkImages().catch((error: unknown) => ({
  failed: true,
  summary: errorText(error),
}));
await neverIfAborted(interrupted);
cleanUp();
console.log(summary);
process.exitCode = failed ? 1 : 0;
await stopAllChildren();
process.exit();

async function checkImages(): Promise<{ failed: boolean; summary: string }> {
  const missing = podmanProblem() ?? makeBase(folder);
  if (missing !== null) {
    const summary = `${missing}; no image was built or run (npm run images builds all of them)`;
    return { failed: false, summary };
  }
  const problems: string[] = [];
  for (const image of IMAGES) {
    await neverIfAborted(interrupted);
    const report = await runImage(buildFromCheckout(image, folder), IDLE_MS);
    problems.push(...report.problems.map((text) => `${image.name}: ${text}`));
  }
  const names = IMAGES.map(({ name }) => name).join(" and ");
  const summary = `${names} were built of this checkout's packages and run; all images from nothing: npm run images`;
  return problems.length === 0
    ? { failed: false, summary }
    : { failed: true, summary: problems.join("\n") };
}

function cleanUp(): void {
  rmSync(folder, { recursive: true, force: true });
  // An error of it, as after an interrupt before the first image, says nothing about the images.
  const names = [...IMAGES.map(checkoutName), BASE];
  const options = { stdio: "ignore", timeout: CLEAN_UP_MS, killSignal: "SIGKILL" } as const;
  spawnSync("podman", ["rmi", "--force", "--ignore", ...names], options);
}
