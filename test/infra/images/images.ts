/**
 * `npm run images` (needs podman): builds the images of the edge, of the worker for CPUs and of the roles without models, runs each as
 * Kubernetes would, and prints its size, memory and the time to stop. Without podman it says so and does nothing.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Command } from "commander";
import { stopOnInterrupt } from "../../../infra/stack/interrupt.ts";
import { stopAllChildren } from "../../../infra/stack/process.ts";
import { errorText } from "../../../infra/stack/user-error.ts";
import { printLines } from "../../bench/table.ts";
import { CONTROL, EDGE, WORKER, type Image } from "./image-list.ts";
import { BUILD_MS, BUILD_OPTIONS, makeBaseImages, podman, podmanProblem } from "./podman.ts";
import { runImage, type ImageReport } from "./run-image.ts";

const EDGE_BYTES_MAX = 250_000_000;
const EDGE_MIB_MAX = 150;
const IDLE_MS = 5_000;

const options = new Command("npm run images --")
  .description("build the images with podman, run them and measure them")
  .option("--local-bases", "make the base images with debootstrap, without a registry", false)
  .option("--no-build", "run the images that were built before")
  .option("--volume <mount...>", "mount for the builds, such as certificates of a proxy", [])
  .option("--json <file>", "also write the report to this file")
  .parse()
  .opts<{ localBases: boolean; build: boolean; volume: string[]; json?: string }>();

stopOnInterrupt();
const problem = podmanProblem();
if (problem !== null) {
  console.log(`${problem}: no image was built or run`);
  process.exit();
}
try {
  if (options.localBases) makeBaseImages();
  const reports: ImageReport[] = [];
  for (const image of [EDGE, WORKER, CONTROL]) {
    if (options.build) build(image);
    const report = await runImage(image, IDLE_MS);
    const problems = image === EDGE ? edgeProblems(report) : [];
    reports.push({ ...report, problems: [...report.problems, ...problems] });
  }
  print(reports);
  if (options.json) writeFileSync(options.json, JSON.stringify(reports, null, 2));
  process.exitCode = reports.every(({ problems }) => problems.length === 0) ? 0 : 1;
} catch (error) {
  console.error(errorText(error));
  process.exitCode = 1;
}
await stopAllChildren();
process.exit();

function build(image: Image): void {
  const { name, target, buildArgs } = image;
  console.error(`building ${name}`);
  const file = join("infra/deploy", image.file);
  const extra = [
    ...(target ? ["--target", target] : []),
    ...buildArgs.flatMap((argument) => ["--build-arg", argument]),
    ...options.volume.flatMap((mount) => ["--volume", mount]),
  ];
  const tag = ["--tag", name, "."];
  const args = ["build", ...BUILD_OPTIONS, "--network", "host", "--file", file, ...extra, ...tag];
  podman(args, BUILD_MS);
}

function edgeProblems({ bytes, memoryMiB }: ImageReport): string[] {
  return [
    ...(bytes > EDGE_BYTES_MAX ? ["larger than 250 MB"] : []),
    ...(memoryMiB > EDGE_MIB_MAX ? ["more than 150 MiB of memory"] : []),
  ];
}

function print(reports: readonly ImageReport[]): void {
  printLines([
    ["image", "MB", "MiB idle", "of it anonymous", "ms to /healthz", "ms to stop", "names asked"],
    ...reports.map(
      ({ image, bytes, memoryMiB, anonymousMiB, healthyMs, stopMs, namesLookedUp }) => [
        image,
        ...[bytes / 1e6, memoryMiB, anonymousMiB, healthyMs, stopMs].map((value) =>
          value.toFixed(0),
        ),
        namesLookedUp === null ? "not checked" : String(namesLookedUp.length),
      ],
    ),
  ]);
  for (const { image, problems } of reports) {
    for (const problem of problems) console.log(`${image}: ${problem}`);
  }
}
