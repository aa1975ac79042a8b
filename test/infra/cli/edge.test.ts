/** `npm run edge` ends with one line if it cannot run: with an invalid variable or a port in use. */
import { execFile } from "node:child_process";
import { once } from "node:events";
import { createServer, type AddressInfo } from "node:net";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";

const EDGE = join(import.meta.dirname, "../../../infra/cli/edge.ts");

/** Runs the edge, which must end by itself. @returns what it prints */
function edge(env: Readonly<Record<string, string>>): Promise<{ code: unknown; error: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [EDGE], { env: { ...process.env, ...env } }, (failure, _, error) => {
      resolve({ code: failure?.code, error });
    });
  });
}

test.for([
  ["Missing or invalid variables: REDIS_URL", { REDIS_URL: "" }],
  ["Missing or invalid variables: REDIS_URL", { REDIS_URL: "http://secret" }],
  [
    "Missing or invalid variables: REDIS_TIMEOUT_MS",
    { REDIS_URL: "redis://:secret@host", REDIS_TIMEOUT_MS: "soon" },
  ],
  [
    "Missing or invalid variables: PORT (see edge/server/settings.ts)",
    { REDIS_URL: "redis://host", PORT: "http" },
  ],
] as const)("it ends with one line: %s", async ([message, env]) => {
  const { code, error } = await edge(env);
  expect(code).toBe(1);
  expect(error).toContain(`Configuration: ${message}`);
  expect(error).toMatch(/^[^\n]+\n$/);
  expect(error).not.toMatch(/secret|soon/);
});

test("with a port in use the edge does not wait", async () => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => void server.close());
  const { port } = server.address() as AddressInfo;
  expect(await edge({ REDIS_URL: "redis://host", PORT: String(port) })).toEqual({
    code: 1,
    error: `port ${port} is in use: stop the program that uses it or set PORT\n`,
  });
});
