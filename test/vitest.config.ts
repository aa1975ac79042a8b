/** Test projects: `unit` runs in Node, `edge` and `edge-hub` in workerd like the deployed edge, `stack` with all real processes. */
import { builtinModules } from "node:module";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { cloudflareTest } from "@cloudflare/vitest-plugin";
import { defineConfig } from "vitest/config";

const root = fileURLToPath(new URL("..", import.meta.url));

/**
 * The Redis clients are bundled for workerd before the tests, as a deployment bundles them. Without a bundle the test pool
 * resolves ioredis's `require("debug")` to ioredis's own `debug.js`, which then calls itself until the stack overflows.
 */
const redisClientBundle = {
  enabled: true,
  include: ["ioredis", "bullmq"],
  rolldownOptions: { external: builtinModules.flatMap((name) => [name, `node:${name}`]) },
};

/** Tests do not measure time. The limit only ends a test that hangs, and is long enough for a busy machine. */
const TEST_TIMEOUT_MS = 60_000;

/**
 * The processes that tests start keep their compiled modules here: that takes 40% off the processor time of a start (with
 * Node 24 a worker of all roles needs 2.6 s instead of 4.6 s).
 */
const CHILD_ENV = { NODE_COMPILE_CACHE: join(root, ".trimtab/compile-cache") };

/** Those that count the connections of hubs, and those with fake timers: timers that other files have left must not fire in them. */
const ISOLATED_TESTS = [
  "test/edge/redis/stream-hub.test.ts",
  "test/edge/http/body.test.ts",
  "test/edge/http/stream-start.test.ts",
  "test/edge/requests/compile-time.test.ts",
];

function edgeProject(test: {
  name: string;
  include?: string[];
  exclude?: string[];
  isolate?: boolean;
}) {
  return {
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
      include: ["test/edge/**/*.test.ts"],
      testTimeout: TEST_TIMEOUT_MS,
      deps: { optimizer: { ssr: redisClientBundle } },
      ...test,
    },
  };
}

export default defineConfig({
  root,
  test: {
    // Not in the edge project: there the setup would use the Redis client that is bundled for workerd.
    globalSetup: ["test/support/servers.ts"],
    // Half more than cores, because stack tests wait for a part of their time; by default vitest takes one less than cores.
    maxWorkers: Math.ceil(1.5 * availableParallelism()),
    projects: [
      {
        root,
        test: {
          name: "unit",
          env: CHILD_ENV,
          include: [
            "test/{bench,eval,edge-server,gpu-check,infra,scorecard,shared,worker}/**/*.test.ts",
          ],
          testTimeout: TEST_TIMEOUT_MS,
        },
      },
      // In one runtime per process, which halves the processor time.
      edgeProject({ name: "edge", isolate: false, exclude: ISOLATED_TESTS }),
      edgeProject({ name: "edge-hub", include: ISOLATED_TESTS }),
      {
        root,
        test: {
          name: "stack",
          env: CHILD_ENV,
          include: ["test/stack/**/*.test.ts"],
          // Longer than one wait in a test (DEADLINE_MS).
          testTimeout: 300_000,
          hookTimeout: 300_000,
        },
      },
    ],
  },
});
