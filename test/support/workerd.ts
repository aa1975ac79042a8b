/**
 * Runs the edge as it is deployed to Cloudflare: wrangler's bundle, in plain workerd with Durable Objects in memory. wrangler only
 * makes the bundle.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { unstable_readConfig } from "wrangler";
import type { EdgeProcess } from "../../infra/stack/edge.ts";
import { freePort } from "../../infra/stack/port.ts";
import { Child } from "../../infra/stack/process.ts";
import { writePages } from "../../infra/pages/write.ts";

const ROOT = join(import.meta.dirname, "../..");
const READY_MS = 60_000;

/** @param variables of edge/runtime/env.ts */
export async function startWorkerd(
  variables: Readonly<Record<string, string>>,
): Promise<EdgeProcess & { readonly bundleGzipBytes: number }> {
  const folder = mkdtempSync(join(tmpdir(), "trimtab-workerd-"));
  try {
    await bundle(folder);
    const bundleGzipBytes = readdirSync(folder)
      .filter(isModule)
      .reduce((sum, name) => sum + gzipSync(readFileSync(join(folder, name))).length, 0);
    const port = await freePort();
    writeFileSync(join(folder, "config.capnp"), configuration(folder, port, variables));
    const child = new Child({
      name: "workerd",
      command: "workerd",
      args: ["serve", join(folder, "config.capnp")],
      cleanUp: async () => rmSync(folder, { recursive: true }),
    });
    const url = `http://127.0.0.1:${port}`;
    await child.waitForUrl(`${url}/readyz`, READY_MS);
    return { child, url, bundleGzipBytes, stop: () => child.stop() };
  } catch (error) {
    rmSync(folder, { recursive: true, force: true });
    throw error;
  }
}

async function bundle(folder: string): Promise<void> {
  writePages();
  const wrangler = new Child({
    name: "wrangler",
    command: "wrangler",
    args: ["deploy", "--dry-run", "--outdir", folder, "--config", join(ROOT, "wrangler.toml")],
    env: { WRANGLER_SEND_METRICS: "false" },
  });
  const { code } = await wrangler.exited;
  if (code !== 0) throw new Error(`wrangler could not make the bundle:\n${wrangler.lastLines}`);
}

const isModule = (name: string) => /\.(js|txt)$/.test(name);

/** The used part of wrangler's configuration. */
interface DeployConfig {
  readonly compatibility_date: string;
  readonly compatibility_flags: readonly string[];
  readonly durable_objects: {
    readonly bindings: readonly { readonly name: string; readonly class_name: string }[];
  };
}

/** The configuration of workerd, from that of wrangler. */
function configuration(
  folder: string,
  port: number,
  variables: Readonly<Record<string, string>>,
): string {
  const { compatibility_date, compatibility_flags, durable_objects } = unstable_readConfig({
    config: join(ROOT, "wrangler.toml"),
  }) as DeployConfig;
  const text = JSON.stringify;
  const modules = readdirSync(folder)
    .filter(isModule)
    // The first module is the entry.
    .toSorted((a, b) => Number(b === "index.js") - Number(a === "index.js"))
    .map((name) => `(name = ${text(name)}, ${kindOf(name)} = embed ${text(name)})`);
  const bindings = [
    ...Object.entries(variables).map(
      ([name, value]) => `(name = ${text(name)}, text = ${text(value)})`,
    ),
    ...durable_objects.bindings.map(
      ({ name, class_name }) =>
        `(name = ${text(name)}, durableObjectNamespace = ${text(class_name)})`,
    ),
  ];
  const classes = durable_objects.bindings.map(
    ({ class_name }) => `(className = ${text(class_name)}, uniqueKey = ${text(class_name)})`,
  );
  return `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "edge", worker = .edge),
    (name = "network", network = (allow = ["public", "private"])),
  ],
  sockets = [(name = "http", address = "127.0.0.1:${port}", http = (), service = "edge")],
);
const edge :Workerd.Worker = (
  modules = [${modules.join(", ")}],
  compatibilityDate = ${text(compatibility_date)},
  compatibilityFlags = [${compatibility_flags.map((flag) => text(flag)).join(", ")}],
  globalOutbound = "network",
  bindings = [${bindings.join(", ")}],
  durableObjectNamespaces = [${classes.join(", ")}],
  durableObjectStorage = (inMemory = void),
);
`;
}

function kindOf(name: string): "esModule" | "text" {
  return name.endsWith(".js") ? "esModule" : "text";
}
