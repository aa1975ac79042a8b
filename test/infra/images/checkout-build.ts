/** Builds the last stage of an image with the packages of this checkout, on a base with nothing but this machine's C library. */
import { execFileSync, spawnSync } from "node:child_process";
import { copyFileSync, cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, matchesGlob } from "node:path";
import { writePages } from "../../../infra/pages/write.ts";
import type { Image } from "./image-list.ts";
import { BUILD_OPTIONS, podman, tryPodman, ULIMITS } from "./podman.ts";

export const BASE = "localhost/trimtab-checkout-base";
const CERTIFICATES = "etc/ssl/certs/ca-certificates.crt";

interface Lock {
  readonly packages: Readonly<
    Record<string, { readonly dev?: boolean; readonly optional?: boolean }>
  >;
}

/** @returns why podman cannot build and run images on this machine, such as within a container that forbids it; null if it can */
export function makeBase(folder: string): string | null {
  const libraries = execFileSync("ldd", [process.execPath], { encoding: "utf8" });
  const files = libraries.match(/\/\S+(?= \(0x)/g) ?? [];
  const root = join(folder, "base");
  for (const file of files) {
    mkdirSync(dirname(join(root, file)), { recursive: true });
    copyFileSync(file, join(root, file));
  }
  writeFileSync(join(folder, "Dockerfile"), "FROM scratch\nCOPY --from=libraries / /\n");
  const loader = files.find((file) => /\/ld-[^/]*$/.test(file))!;
  return tryPodman(
    ["build", ...BUILD_OPTIONS, "--build-context", `libraries=${root}`, "--tag", BASE, folder],
    ["run", "--rm", ...ULIMITS, "--network", "none", BASE, loader, "--version"],
  );
}

/**
 * Node and the packages are mounted when the image runs: their copies would take most of the time.
 * @returns the image, as it is run
 */
export function buildFromCheckout(image: Image, folder: string): Image {
  const dockerfile = readFileSync(join("infra/deploy", image.file), "utf8");
  const stage = lastStage(dockerfile, image.target);
  const staging = join(folder, image.name);
  const app = join(staging, "app");
  for (const file of ["node", "app/sbom.json", CERTIFICATES]) {
    mkdirSync(dirname(join(staging, file)), { recursive: true });
    writeFileSync(join(staging, file), "");
  }
  mkdirSync(join(app, "node_modules"));
  for (const path of ["package.json", "package-lock.json"]) copyFileSync(path, join(app, path));
  const sources = [...stage.matchAll(/--from=packages \/app\/(shared|edge) /g)];
  if (sources.length > 0) writePages();
  for (const [, path] of sources) cpSync(path!, join(app, path!), { recursive: true });
  const file = join(folder, image.file);
  writeFileSync(
    file,
    stage.replace(/^FROM .*/, `FROM ${BASE}`).replaceAll(/--from=\S+/g, "--from=staging"),
  );
  const name = `${image.name}-of-checkout`;
  const context = ["--layers=false", "--build-context", `staging=${staging}`];
  podman(["build", ...BUILD_OPTIONS, ...context, "--file", file, "--tag", name, "."]);
  const mounts = [
    `${process.execPath}:/usr/local/bin/node:ro`,
    `${copyPackages(dockerfile, `${staging}-packages`)}:/app/node_modules:ro`,
  ];
  const runOptions = [...image.runOptions, ...mounts.flatMap((mount) => ["--volume", mount])];
  return { ...image, name, runOptions };
}

/** @param target the stage's name; absent: the last one of the file */
function lastStage(dockerfile: string, target: string | undefined): string {
  const stages = dockerfile.split(/^(?=FROM )/m);
  const isTarget = (stage: string) => stage.split("\n", 1)[0]!.endsWith(` AS ${target}`);
  return (target === undefined ? stages.at(-1) : stages.find(isTarget))!;
}

/**
 * Copies the production packages, less those and the files that the Dockerfile deletes.
 * @returns their folder
 */
function copyPackages(dockerfile: string, folder: string): string {
  const removals = [...dockerfile.matchAll(/rm -rf (node_modules\/[^\\\n&]+)/g)];
  const deleted = removals.flatMap(([, paths]) => paths!.trim().split(/\s+/));
  const { packages } = JSON.parse(readFileSync("package-lock.json", "utf8")) as Lock;
  const kept = Object.entries(packages).filter(
    ([path, { dev, optional }]) =>
      /^node_modules\/(@[^/]+\/)?[^/]+$/.test(path) &&
      !dev &&
      !deleted.some((pattern) => matchesGlob(path, pattern) || path.startsWith(`${pattern}/`)) &&
      // Those of other platforms are not installed.
      !(optional && !existsSync(path)),
  );
  mkdirSync(folder);
  const args = ["--parents", ...kept.map(([path]) => path), folder];
  // Links are ten times as fast, and impossible if the packages are on another file system.
  if (spawnSync("cp", ["-al", ...args]).status !== 0) execFileSync("cp", ["-a", ...args]);
  const find = /find node_modules[^&]+-delete/.exec(dockerfile)![0];
  execFileSync("sh", ["-c", find.replaceAll("\\\n", " ")], { cwd: folder });
  return join(folder, "node_modules");
}
