/** Runs podman, and makes the base images of the Dockerfiles on a machine that reaches no registry of images. */
import { execFileSync, spawnSync } from "node:child_process";
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { UserError } from "../../../infra/stack/user-error.ts";

const DEBIAN = "docker.io/library/debian:bookworm-slim";
const NODE = "docker.io/library/node:24-bookworm-slim";
/** The official image has none of these either. */
const LEFT_OUT = [
  "usr/share/doc",
  "usr/share/man",
  "usr/share/locale",
  "var/lib/apt/lists",
  "var/cache/apt",
];

const NODE_DOCKERFILE = `FROM ${DEBIAN}
COPY node /usr/local/bin/node
COPY package /usr/local/lib/node_modules/npm
RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm
`;

/** Podman's own format of images has no HEALTHCHECK. */
export const BUILD_OPTIONS = ["--quiet", "--format", "docker"];

/** For calls without a download, also on a busy machine. */
const CALL_MS = 300_000;
export const BUILD_MS = 3_600_000;

/**
 * As in the chart: nothing can be written. The timeout (in seconds) ends a container that an interrupted check has left. The ulimits are
 * below a machine's default, which a container within a container may not raise.
 */
export const RUN_OPTIONS =
  "--rm --no-healthcheck --timeout 300 --network host --read-only --read-only-tmpfs=false --cap-drop all --security-opt no-new-privileges --ulimit nofile=4096:4096 --ulimit nproc=2048:2048".split(
    " ",
  );

/** @returns why there is no podman; null if there is one */
export function podmanProblem(): string | null {
  const isInstalled = spawnSync("podman", ["--version"], { timeout: CALL_MS }).status === 0;
  return isInstalled ? null : "podman is not installed";
}

/** @returns the last line of the error of the first command that fails; null if all succeed */
export function tryPodman(...commands: readonly (readonly string[])[]): string | null {
  for (const args of commands) {
    const { status, stderr } = call(args, "pipe", CALL_MS);
    if (status !== 0)
      return `podman ${args[0]} fails here (${stderr.trimEnd().split("\n").at(-1)})`;
  }
  return null;
}

/** @returns what it prints. @throws UserError if it fails; the reason is then on this program's stderr */
export function podman(args: readonly string[], timeoutMs = CALL_MS): string {
  const { status, stdout } = call(args, "inherit", timeoutMs);
  if (status !== 0) throw new UserError(`podman ${args[0]} ended with ${status}`);
  return stdout.trim();
}

function call(args: readonly string[], stderr: "pipe" | "inherit", timeoutMs: number) {
  const result = spawnSync("podman", args, {
    encoding: "utf8",
    stdio: ["ignore", "pipe", stderr],
    timeout: timeoutMs,
    killSignal: "SIGKILL",
  });
  if (result.error) throw new UserError(`podman ${args[0]}: ${result.error.message}`);
  return result;
}

/** Makes Debian with debootstrap, and from it the image with the Node that runs this program and npm. */
export function makeBaseImages(): void {
  const folder = mkdtempSync(join(tmpdir(), "trimtab-images-"));
  try {
    const root = join(folder, "root");
    const debootstrap = ["--variant=minbase", "--include=ca-certificates", "bookworm", root];
    execFileSync("debootstrap", debootstrap, { stdio: ["ignore", "ignore", "inherit"] });
    for (const path of LEFT_OUT) rmSync(join(root, path), { recursive: true, force: true });
    const archive = join(folder, "root.tar");
    execFileSync("tar", ["-C", root, "-cf", archive, "."]);
    podman(["import", "--quiet", archive, DEBIAN]);
    copyFileSync(process.execPath, join(folder, "node"));
    execFileSync("npm", ["pack", "npm@11", "--silent"], { cwd: folder, stdio: "ignore" });
    execFileSync("sh", ["-c", "tar -xf npm-*.tgz"], { cwd: folder });
    writeFileSync(join(folder, "Dockerfile"), NODE_DOCKERFILE);
    writeFileSync(join(folder, ".dockerignore"), "root\nroot.tar\n");
    podman(["build", ...BUILD_OPTIONS, "--network", "host", "--tag", NODE, folder]);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
