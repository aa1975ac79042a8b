/** The worker as a program: what it prints when it cannot start, and its end on SIGTERM during the start. */
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { expect, test } from "vitest";

const MAIN = join(import.meta.dirname, "../../worker/main.ts");

/** Runs the worker, which must end by itself. @returns its exit code, and its output as lines of JSON */
function worker(
  env: Readonly<Record<string, string>>,
): Promise<{ code: unknown; lines: object[] }> {
  return new Promise((resolve) => {
    const options = { env: { ...process.env, ROLES: "sweep", ...env } };
    execFile(process.execPath, [MAIN], options, (failure, output, errors) => {
      const lines = `${output}${errors}`.trimEnd().split("\n");
      resolve({ code: failure?.code, lines: lines.map((line) => JSON.parse(line) as object) });
    });
  });
}

test.for([
  ["Configuration: REDIS_URL: Expected", { REDIS_URL: "http://host" }],
  ["need a REDIS_URL with rediss://", { REDIS_URL: "redis://host", REDIS_TLS_CA: "-----BEGIN X" }],
] as const)("it ends with one line of its log: %s", async ([message, env]) => {
  const { code, lines } = await worker(env);
  expect(code).toBe(1);
  expect(lines).toEqual([
    expect.objectContaining({ level: 60, msg: expect.stringContaining(message) }),
  ]);
});

test("SIGTERM while a model is loaded ends it with 0, without Redis", async () => {
  // Port 1: nothing listens there.
  const env = {
    ...process.env,
    ROLES: "generate",
    REDIS_URL: "redis://127.0.0.1:1",
    DRAIN_SECONDS: "60",
  };
  const child = spawn(process.execPath, [MAIN], { env, stdio: ["ignore", "pipe", "inherit"] });
  let output = "";
  let isStopped = false;
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    output += text;
    // About when onnxruntime loads a model. A process that exits meanwhile is aborted in one run of three.
    if (!isStopped && output.split('"stage":"load"').length > 2) isStopped = child.kill();
  });
  const [code, signal] = (await once(child, "exit")) as [number | null, string | null];
  expect({ code, signal }).toEqual({ code: 0, signal: null });
  expect(output).toContain("Draining");
});
