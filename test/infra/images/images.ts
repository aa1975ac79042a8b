/**
 * `npm run images` (needs podman): builds the images of the edge, of the worker for CPUs and of the roles without models, and runs each as Kubernetes would: not as root,
 * with a file system that cannot be written, without capabilities. It measures size, memory and the time to stop, and checks that health
 * is told before Redis answers and that no name is looked up. Without podman it says so and does nothing.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Command } from "commander";
import { stopOnInterrupt } from "../../../infra/stack/interrupt.ts";
import { freePort } from "../../../infra/stack/port.ts";
import { stopAllChildren } from "../../../infra/stack/process.ts";
import { startRedis } from "../../../infra/stack/redis.ts";
import { errorText } from "../../../infra/stack/user-error.ts";
import { printLines } from "../../bench/table.ts";
import { startNameServer } from "../../support/name-server.ts";
import { hasPodman, makeBaseImages, podman } from "./podman.ts";

const EDGE_BYTES_MAX = 250_000_000;
const EDGE_MIB_MAX = 150;
const READY_MS = 120_000;
const IDLE_MS = 5_000;
/** Only root may listen here. */
const NAME_SERVER = { host: "127.0.0.9", port: 53 };
const HOST = "127.0.0.1";
/** As in the chart: nothing can be written but the worker's /tmp. The two ulimits are below a machine's default, which a container within a container may not raise. */
const LIMITS =
  "--detach --network host --read-only --read-only-tmpfs=false --cap-drop all --security-opt no-new-privileges --ulimit nofile=4096:4096 --ulimit nproc=2048:2048".split(
    " ",
  );

interface Image {
  readonly name: string;
  readonly file: string;
  /** A stage of the file; absent: the last one. */
  readonly target?: string;
  readonly buildArgs: readonly string[];
  /** The variable with the port of /healthz. */
  readonly portVariable: string;
  readonly runOptions: readonly string[];
}

const IMAGES: readonly Image[] = [
  {
    name: "trimtab-edge",
    file: "edge.Dockerfile",
    buildArgs: [],
    portVariable: "PORT",
    runOptions: [],
  },
  {
    name: "trimtab-worker",
    file: "worker.Dockerfile",
    buildArgs: ["BASE=docker.io/library/debian:bookworm-slim", "ONNXRUNTIME=skip"],
    portVariable: "HEALTH_PORT",
    runOptions: ["--tmpfs", "/tmp"],
  },
  {
    name: "trimtab-control",
    file: "worker.Dockerfile",
    target: "control",
    buildArgs: ["BASE=docker.io/library/debian:bookworm-slim"],
    portVariable: "HEALTH_PORT",
    runOptions: [],
  },
];

interface ImageReport {
  readonly image: string;
  readonly bytes: number;
  /** After five idle seconds: resident, and without the pages of files. */
  readonly memoryMiB: number;
  readonly anonymousMiB: number;
  /** From the start of the container until /healthz answers, without Redis. */
  readonly healthyMs: number;
  /** From SIGTERM to the end, without work. */
  readonly stopMs: number;
  readonly exitCode: number;
  /** Null: not checked, which needs root. */
  readonly namesLookedUp: readonly string[] | null;
  readonly problems: readonly string[];
}

const options = new Command("npm run images --")
  .description("build the images with podman, run them and measure them")
  .option("--local-bases", "make the base images with debootstrap, without a registry", false)
  .option("--no-build", "run the images that were built before")
  .option("--volume <mount...>", "mount for the builds, such as certificates of a proxy", [])
  .option("--json <file>", "also write the report to this file")
  .parse()
  .opts<{ localBases: boolean; build: boolean; volume: string[]; json?: string }>();

stopOnInterrupt();
if (!hasPodman()) {
  console.log("podman is not installed: no image was built or run");
  process.exit();
}
try {
  if (options.localBases) makeBaseImages();
  const reports: ImageReport[] = [];
  for (const image of IMAGES) {
    if (options.build) build(image);
    reports.push(await measure(image));
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
  podman(["build", "--quiet", "--network", "host", "--file", file, ...extra, ...tag]);
}

async function measure({ name, portVariable, runOptions }: Image): Promise<ImageReport> {
  const folder = mkdtempSync(join(tmpdir(), "trimtab-images-"));
  const isRoot = process.getuid?.() === 0;
  const names = isRoot ? await startNameServer(() => "absent", 0, NAME_SERVER) : null;
  const [port, redisPort] = [await freePort(), await freePort()];
  const resolv = join(folder, "resolv.conf");
  writeFileSync(resolv, `nameserver ${NAME_SERVER.host}\n`);
  const problems: string[] = [];
  const startMs = performance.now();
  const env = { REDIS_URL: `redis://127.0.0.1:${redisPort}`, [portVariable]: String(port), HOST };
  const id = podman([
    "run",
    ...LIMITS,
    ...runOptions,
    ...(isRoot ? ["--volume", `${resolv}:/etc/resolv.conf:ro`] : []),
    ...Object.entries(env).flatMap(([variable, value]) => ["--env", `${variable}=${value}`]),
    name,
  ]);
  try {
    const url = `http://127.0.0.1:${port}`;
    await waitFor(`${url}/healthz`);
    const healthyMs = performance.now() - startMs;
    if ((await fetch(`${url}/readyz`)).status !== 503) problems.push("ready without Redis");
    await startRedis({ port: redisPort });
    await waitFor(`${url}/readyz`);
    await delay(IDLE_MS);
    const status = podman(["exec", id, "cat", "/proc/1/status"]);
    const field = (label: string) => new RegExp(`^${label}:\\s+(\\S+)`, "m").exec(status)![1]!;
    if (field("Uid") === "0") problems.push("runs as root");
    if (field("CapEff") !== "0000000000000000") problems.push("has capabilities");
    const stopStart = performance.now();
    podman(["kill", "--signal", "TERM", id]);
    const exitCode = Number(podman(["wait", id]));
    const stopMs = performance.now() - stopStart;
    if (exitCode !== 0) problems.push(`ended with ${exitCode}`);
    const namesLookedUp = names === null ? null : [...new Set(names.questions)];
    if (namesLookedUp && namesLookedUp.length > 0) problems.push("looked up names");
    const bytes = Number(podman(["inspect", name, "--format", "{{.Size}}"]));
    const memoryMiB = Number(field("VmRSS")) / 1024;
    if (name === "trimtab-edge") problems.push(...edgeProblems(bytes, memoryMiB));
    return {
      image: name,
      bytes,
      memoryMiB,
      anonymousMiB: Number(field("RssAnon")) / 1024,
      healthyMs,
      stopMs,
      exitCode,
      namesLookedUp,
      problems,
    };
  } catch (error) {
    console.error(podman(["logs", "--tail", "20", id]));
    throw error;
  } finally {
    podman(["rm", "--force", id]);
    names?.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

function edgeProblems(bytes: number, memoryMiB: number): string[] {
  return [
    ...(bytes > EDGE_BYTES_MAX ? ["larger than 250 MB"] : []),
    ...(memoryMiB > EDGE_MIB_MAX ? ["more than 150 MiB of memory"] : []),
  ];
}

async function waitFor(url: string): Promise<void> {
  const endMs = performance.now() + READY_MS;
  while (performance.now() < endMs) {
    const isUp = await fetch(url).then(
      (reply) => reply.ok,
      () => false,
    );
    if (isUp) return;
    await delay(50);
  }
  throw new Error(`${url} did not answer 200`);
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
