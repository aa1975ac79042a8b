import type { AddressInfo } from "node:net";
import { expect, test } from "vitest";
import { startHealth } from "../../worker/health.ts";

test("a worker is alive while it runs, ready while it takes jobs, and says nothing else", async () => {
  let ready = false;
  const server = await startHealth(0, () => ready);
  const status = async (path: string) => {
    const { port } = server.address() as AddressInfo;
    return (await fetch(`http://127.0.0.1:${port}${path}`)).status;
  };
  expect(await status("/healthz")).toBe(200);
  expect(await status("/readyz")).toBe(503);
  ready = true;
  expect(await status("/readyz")).toBe(200);
  expect(await status("/")).toBe(404);
  server.closeAllConnections();
  server.close();
});

test("a port that is taken is an error", async () => {
  const server = await startHealth(0, () => true);
  const { port } = server.address() as AddressInfo;
  await expect(startHealth(port, () => true)).rejects.toThrow("EADDRINUSE");
  server.close();
});
