/** The worker as a program: what it prints when it cannot start. */
import { execFile } from "node:child_process";
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
