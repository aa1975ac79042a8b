/** Runs an image as Kubernetes would: not as root, with a file system that cannot be written, without capabilities; and checks and measures it. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { freePort } from "../../../infra/stack/port.ts";
import { Child } from "../../../infra/stack/process.ts";
import { startRedis } from "../../../infra/stack/redis.ts";
import { startNameServer } from "../../support/name-server.ts";
import type { Image } from "./image-list.ts";
import { podman, RUN_OPTIONS } from "./podman.ts";

const READY_MS = 120_000;
const NAME_SERVER = { host: "127.0.0.9", port: 53 };
const HOST = "127.0.0.1";

export interface ImageReport {
  readonly image: string;
  readonly bytes: number;
  /** When it has been idle for `idleMs`: resident, and without the pages of files. */
  readonly memoryMiB: number;
  readonly anonymousMiB: number;
  /** From the start of the container until /healthz answers, without Redis. */
  readonly healthyMs: number;
  /** From SIGTERM to the end, without work. */
  readonly stopMs: number;
  /** Null: not checked, because only root may listen at NAME_SERVER, or another program does. */
  readonly namesLookedUp: readonly string[] | null;
  readonly problems: readonly string[];
}

export async function runImage(
  { name, portVariable, runOptions }: Image,
  idleMs: number,
): Promise<ImageReport> {
  const names = await startNameServer(() => "absent", 0, NAME_SERVER).catch(() => null);
  const [port, redisPort] = [await freePort(), await freePort()];
  const folder = mkdtempSync(join(tmpdir(), "trimtab-images-"));
  const resolv = join(folder, "resolv.conf");
  writeFileSync(resolv, `nameserver ${NAME_SERVER.host}\n`);
  const problems: string[] = [];
  const container = `${name}-${process.pid}`;
  const env = { REDIS_URL: `redis://127.0.0.1:${redisPort}`, [portVariable]: String(port), HOST };
  const startMs = performance.now();
  const child = new Child({
    name,
    command: "podman",
    args: [
      "run",
      ...RUN_OPTIONS,
      "--name",
      container,
      ...runOptions,
      ...(names ? ["--volume", `${resolv}:/etc/resolv.conf:ro`] : []),
      ...Object.entries(env).flatMap(([variable, value]) => ["--env", `${variable}=${value}`]),
      name,
    ],
    // Called also after an interrupt.
    cleanUp: async () => rmSync(folder, { recursive: true, force: true }),
  });
  try {
    const url = `http://127.0.0.1:${port}`;
    await child.waitForUrl(`${url}/healthz`, READY_MS);
    const healthyMs = performance.now() - startMs;
    if ((await fetch(`${url}/readyz`)).status !== 503) problems.push("ready without Redis");
    const redis = await startRedis({ port: redisPort });
    await child.waitForUrl(`${url}/readyz`, READY_MS);
    await delay(idleMs);
    const read = 'process.stdout.write(fs.readFileSync("/proc/1/status"))';
    const status = podman(["exec", container, "node", "-e", read]);
    const field = (label: string) => new RegExp(`^${label}:\\s+(\\S+)`, "m").exec(status)![1]!;
    if (field("Uid") === "0") problems.push("runs as root");
    if (field("CapEff") !== "0000000000000000") problems.push("has capabilities");
    const stopStart = performance.now();
    await child.stop();
    const { code: exitCode } = await child.exited;
    const stopMs = performance.now() - stopStart;
    if (exitCode !== 0) problems.push(`ended with ${exitCode}`);
    await redis.stop();
    const namesLookedUp = names === null ? null : [...new Set(names.questions)];
    if (namesLookedUp && namesLookedUp.length > 0) {
      problems.push(`looked up ${namesLookedUp.join(", ")}`);
    }
    return {
      image: name,
      bytes: Number(podman(["inspect", name, "--format", "{{.Size}}"])),
      memoryMiB: Number(field("VmRSS")) / 1024,
      anonymousMiB: Number(field("RssAnon")) / 1024,
      healthyMs,
      stopMs,
      namesLookedUp,
      problems,
    };
  } finally {
    await child.stop();
    names?.close();
  }
}
