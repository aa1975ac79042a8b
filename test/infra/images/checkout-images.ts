/**
 * A step of `npm test`: builds the last stages of the images of the edge and of the roles without models, and runs them. It needs podman,
 * but no network and no base image: the packages are those of this checkout, and the base is this machine's C library. So it shows
 * within seconds that the image has every file and package that it needs, and lacks nothing that the Dockerfile deletes. `npm run images`
 * builds all images from nothing. The last line says which were built, or why none was.
 */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { stopOnInterrupt } from "../../../infra/stack/interrupt.ts";
import { stopAllChildren } from "../../../infra/stack/process.ts";
import { errorText } from "../../../infra/stack/user-error.ts";
import { BASE, buildFromCheckout, makeBase } from "./checkout-build.ts";
import { CONTROL, EDGE } from "./image-list.ts";
import { podman, podmanProblem } from "./podman.ts";
import { runImage } from "./run-image.ts";

const IDLE_MS = 0;
const STAGING = join(import.meta.dirname, "../../../.trimtab");

stopOnInterrupt();
process.exitCode = await main();
await stopAllChildren();
process.exit();

async function main(): Promise<number> {
  const problem = podmanProblem();
  return problem === null ? buildAndRun() : nothingBuilt(problem);
}

function nothingBuilt(problem: string): number {
  console.log(`${problem}; no image was built or run (npm run images builds all of them)`);
  return 0;
}

async function buildAndRun(): Promise<number> {
  mkdirSync(STAGING, { recursive: true });
  const folder = mkdtempSync(join(STAGING, "images-"));
  const built: string[] = [];
  try {
    const problem = makeBase(folder);
    if (problem !== null) return nothingBuilt(problem);
    const problems: string[] = [];
    for (const image of [EDGE, CONTROL].map((each) => buildFromCheckout(each, folder))) {
      built.push(image.name);
      const report = await runImage(image, IDLE_MS);
      problems.push(...report.problems.map((text) => `${image.name}: ${text}`));
    }
    const names = built.join(" and ");
    console.log(
      problems.length > 0
        ? problems.join("\n")
        : `${names} were built of this checkout's packages and run; all images from nothing: npm run images`,
    );
    return problems.length > 0 ? 1 : 0;
  } catch (error) {
    console.error(errorText(error));
    return 1;
  } finally {
    podman(["rmi", "--force", "--ignore", ...built, BASE]);
    rmSync(folder, { recursive: true, force: true });
  }
}
