/** Three kinds of tests: `unit` in Node, `edge` in workerd as it is deployed, `stack` with every real part at once. */
import { builtinModules } from "node:module";
import { fileURLToPath } from "node:url";
import { cloudflareTest } from "@cloudflare/vitest-plugin";
import { defineConfig } from "vitest/config";

const root = fileURLToPath(new URL("..", import.meta.url));

/**
 * The Redis clients are bundled for workerd ahead of the tests, as a deployment bundles them. Unbundled, the pool
 * resolves ioredis's `require("debug")` to ioredis's own `debug.js`, which then calls itself until the stack ends.
 */
const bundled = {
  enabled: true,
  include: ["ioredis", "bullmq"],
  rolldownOptions: { external: builtinModules.flatMap((name) => [name, `node:${name}`]) },
};

/** No test measures time: a limit is there to end what hangs, also on a machine that is busy with other things. */
const SLOW_MACHINE_MS = 60_000;

export default defineConfig({
  root,
  test: {
    // Here and not in the edge's project, whose bundled clients would be used for it, and are for workerd.
    globalSetup: ["test/support/servers.ts"],
    projects: [
      {
        root,
        test: {
          name: "unit",
          include: ["test/{shared,worker,infra}/**/*.test.ts"],
          testTimeout: SLOW_MACHINE_MS,
        },
      },
      {
        root,
        plugins: [
          cloudflareTest(({ inject }) => ({
            wrangler: { configPath: "./wrangler.toml" },
            miniflare: {
              bindings: { REDIS_URL: inject("redisUrl"), STREAM_HEARTBEAT_SECONDS: 0.2 },
            },
          })),
        ],
        test: {
          name: "edge",
          include: ["test/edge/**/*.test.ts"],
          testTimeout: SLOW_MACHINE_MS,
          deps: { optimizer: { ssr: bundled } },
        },
      },
      {
        root,
        test: {
          name: "stack",
          include: ["test/stack/**/*.test.ts"],
          testTimeout: 120_000,
          hookTimeout: 120_000,
          // Each test starts processes of its own; several files at once would only make them wait for each other.
          fileParallelism: false,
        },
      },
    ],
  },
});
