/**
 * `npm run stream-clients`: reads streams with pauses, in which the edge sends heartbeats, with the official Python clients of
 * three majors and with httpx-sse. It needs Python 3.10 or newer. test/edge/http/sse.test.ts does the same with npm's parsers.
 */
import { join } from "node:path";
import { startEdge } from "../../infra/stack/edge.ts";
import { Child } from "../../infra/stack/process.ts";
import { connectRedis, startRedis } from "../../infra/stack/redis.ts";
import { startWorker } from "../../infra/stack/worker.ts";
import { KeyRegistry } from "../../shared/keys/registry.ts";
import { runCommand } from "../support/command.ts";
import { installPythonTools } from "../../infra/stack/python-tools.ts";

const OPENAI_VERSIONS = ["1.109.1", "2.37.0", "3.57.0"];
const SCRIPT = join(import.meta.dirname, "read_streams.py");

await runCommand(check);

/** @returns 1 if a client read something else than was sent */
async function check(): Promise<number> {
  const { url: redisUrl } = await startRedis();
  const [edge, redis, worker] = await Promise.all([
    startEdge({ redisUrl, env: { STREAM_HEARTBEAT_SECONDS: "0.1" } }),
    connectRedis(redisUrl),
    // One process, so that stopping it stops the generation.
    startWorker({ redisUrl, env: { LOG_LEVEL: "warn", ROLES: "generate" } }),
  ]);
  const { key } = await new KeyRegistry(redis).create("stream-clients");
  redis.disconnect();
  let exitCode = 0;
  for (const version of OPENAI_VERSIONS) {
    const packages = [`openai==${version}`, "httpx", "httpx-sse==0.4.3"];
    const client = new Child({
      name: `openai ${version}`,
      command: join(installPythonTools(`stream-clients-openai-${version}`, packages), "python"),
      args: [SCRIPT, edge.url, key, String(worker.child.pid)],
      inherit: true,
    });
    if ((await client.exited).code !== 0) exitCode = 1;
  }
  return exitCode;
}
