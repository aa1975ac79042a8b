import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { runStage } from "./run-stage.ts";

const OPTIONS = { stage: "golden", provider: "webgpu", family: "demo", seconds: 60 } as const;

const folder = mkdtempSync(join(tmpdir(), "trimtab-run-stage-"));
afterAll(() => rmSync(folder, { recursive: true }));

function run(code: string, seconds: number = OPTIONS.seconds) {
  const file = join(folder, "stage.mjs");
  writeFileSync(file, `process.send({ type: "row", row: { model: "a" } }, () => { ${code} });`);
  return runStage({ ...OPTIONS, seconds }, file);
}

test("a stage that crashes keeps its rows, and its signal and last output are its error", async () => {
  const code = `console.error("no device"); process.kill(process.pid, "SIGABRT");`;
  const { rows, error } = await run(code);
  expect(rows).toEqual([{ model: "a" }]);
  expect(error).toBe("its process ended with SIGABRT: no device");
});

test("a stage that hangs is killed", async () => {
  expect((await run("setInterval(() => {}, 1000)", -10)).error).toContain("was killed");
});

test("a failed stage tells its reason; a good one none", async () => {
  const failed = `process.send({ type: "failed", reason: "no driver" }, () => process.exit())`;
  expect(await run(failed)).toMatchObject({ error: "no driver", rows: [{ model: "a" }] });
  expect(await run("process.exit()")).toMatchObject({ error: null, provider: "webgpu" });
});
