/** Builds the last stage of an image with the packages of this checkout, on a base with nothing but this machine's C library. */
import { execFileSync, spawnSync } from "node:child_process";
import { copyFileSync, cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, matchesGlob, resolve } from "node:path";
import { writePages } from "../../../infra/pages/write.ts";
import type { Image } from "./image-list.ts";
import { BUILD_OPTIONS, podman, RUN_OPTIONS, tryPodman } from "./podman.ts";

/** Part of all names, because other checkouts on this machine may run this too. */
const RUN = process.pid;
export const BASE = `localhost/trimtab-checkout-base-${RUN}`;
const CERTIFICATES = "etc/ssl/certs/ca-certificates.crt";

const MOUNT_NODE = [
  "--volume",
  `${process.execPath}:/usr/local/bin/node:ro`,
  // Otherwise SELinux forbids the container to read files of a home directory.
  "--security-opt",
  "label=disable",
];
/** With a umask such as 077 the image's user could not read the checkout. */
const PROBE =
  'try { fs.readFileSync("/package.json") } catch ({ message }) { console.error(message); process.exit(1) }';

interface Lock {
  readonly packages: Readonly<
    Record<string, { readonly dev?: boolean; readonly optional?: boolean }>
  >;
}

/**
 * Makes the image BASE.
 * @returns why the images of this checkout cannot be built and run on this machine, such as within a container that forbids it; null if
 *   they can
 */
export function makeBase(folder: string): string | null {
  const { status, stdout } = spawnSync("ldd", [process.execPath], { encoding: "utf8" });
  // As on macOS, where podman runs another system than Node.
  if (status !== 0) return "ldd does not list the libraries of Node here";
  const files = stdout.match(/\/\S+(?= \(0x)/g) ?? [];
  const root = join(folder, "base");
  for (const file of files) {
    mkdirSync(dirname(join(root, file)), { recursive: true });
    copyFileSync(file, join(root, file));
  }
  writeFileSync(join(folder, "Dockerfile"), "FROM scratch\nCOPY --from=libraries / /\n");
  const probeMount = ["--volume", `${resolve("package.json")}:/package.json:ro`];
  const probe = ["--user", "10001", ...MOUNT_NODE, ...probeMount, BASE, "/usr/local/bin/node"];
  return tryPodman(
    ["build", ...BUILD_OPTIONS, "--build-context", `libraries=${root}`, "--tag", BASE, folder],
    ["run", ...RUN_OPTIONS, ...probe, "--eval", PROBE],
  );
}

/** The name of an image that is built from this checkout. */
export const checkoutName = (image: Image): string => `${image.name}-of-checkout-${RUN}`;

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
  const name = checkoutName(image);
  const context = ["--layers=false", "--build-context", `staging=${staging}`];
  podman(["build", ...BUILD_OPTIONS, ...context, "--file", file, "--tag", name, "."]);
  const packages = copyPackages(dockerfile, `${staging}-packages`);
  const mounts = [...MOUNT_NODE, "--volume", `${packages}:/app/node_modules:ro`];
  return { ...image, name, runOptions: [...image.runOptions, ...mounts] };
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
