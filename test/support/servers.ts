/** Starts servers for a test project: a Redis, and a server that accepts connections and never answers. */
import { createServer, type AddressInfo, type Socket } from "node:net";
import { once } from "node:events";
import type { TestProject } from "vitest/node";
import { writePages } from "../../infra/pages/write.ts";
import { startRedis } from "../../infra/stack/redis.ts";

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  // The edge imports the files that this writes.
  writePages();
  const redis = await startRedis();
  const sockets = new Set<Socket>();
  const silent = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {}).on("close", () => sockets.delete(socket));
  }).listen(0, "127.0.0.1");
  await once(silent, "listening");
  project.provide("redisUrl", redis.url);
  project.provide("silentUrl", `redis://127.0.0.1:${(silent.address() as AddressInfo).port}`);
  return async () => {
    for (const socket of sockets) socket.destroy();
    silent.close();
    await redis.stop();
  };
}
