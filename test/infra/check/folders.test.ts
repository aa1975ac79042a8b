/** The rules about imports, each on a small made-up repository in a temporary folder. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { importViolations } from "../../../infra/check/folders.ts";

/** The violations in a repository that has these files, given as path and content. */
function violationsIn(files: Readonly<Record<string, string>>): string[] {
  const root = mkdtempSync(join(tmpdir(), "trimtab-folders-"));
  onTestFinished(() => rmSync(root, { recursive: true }));
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(join(root, dirname(path)), { recursive: true });
    writeFileSync(join(root, path), content);
  }
  return importViolations(root);
}

test("folders that import in one direction only are accepted", () => {
  expect(
    violationsIn({
      "edge/routes/jobs.ts": `import { a } from "../redis/a.ts"; import { b } from "./b.ts";`,
      "edge/routes/b.ts": `import { x } from "../../shared/api/x.ts";`,
      "edge/redis/a.ts": `export * from "../../shared/api/x.ts";`,
    }),
  ).toEqual([]);
});

test("two folders that import each other are named with one import in each direction", () => {
  expect(
    violationsIn({
      "edge/a/one.ts": `import { two } from "../b/two.ts";`,
      "edge/b/three.ts": `import { four } from "../a/four.ts";`,
    }),
  ).toEqual([
    `folders import each other: edge/a, edge/b
  edge/a/one.ts imports edge/b/two.ts
  edge/b/three.ts imports edge/a/four.ts`,
  ]);
});

test("a cycle of three folders is named once, with the three imports", () => {
  expect(
    violationsIn({
      "worker/a/1.ts": `import "../b/2.ts";`,
      "worker/b/2.ts": `import "../c/3.ts";`,
      "worker/c/3.ts": `import "../a/1.ts";`,
      "worker/main.ts": `import "./a/1.ts";`,
    }),
  ).toEqual([
    `folders import each other: worker/a, worker/b, worker/c
  worker/a/1.ts imports worker/b/2.ts
  worker/b/2.ts imports worker/c/3.ts
  worker/c/3.ts imports worker/a/1.ts`,
  ]);
});

test("a folder and the folder that contains it may not import each other either", () => {
  const violations = violationsIn({
    "edge/app.ts": `import "./routes/jobs.ts";`,
    "edge/routes/jobs.ts": `import "../app.ts";`,
  });
  expect(violations[0]).toMatch(/^folders import each other: edge, edge\/routes\n/);
});

test.for([
  [`import type { A } from "../b/b.ts";`],
  [`export type { A } from "../b/b.ts";`],
  [`export * from "../b/b.ts";`],
  [`type A = import("../b/b.ts").A;`],
  [`const a = await import("../b/b.ts");`],
])("%s counts as an import", ([source]) => {
  const files = { "shared/a/a.ts": source!, "shared/b/b.ts": `import "../a/a.ts";` };
  expect(violationsIn(files)).toHaveLength(1);
});

test.for([
  ["shared/api/a.ts", "../../edge/app.ts", "edge/app.ts"],
  ["shared/api/a.ts", "../../worker/env.ts", "worker/env.ts"],
  ["shared/api/a.ts", "../../infra/stack/port.ts", "infra/stack/port.ts"],
  ["shared/api/a.ts", "node:fs", "node:fs"],
  ["shared/api/a.ts", "fs/promises", "node:fs/promises"],
  ["shared/api/a.ts", "ioredis", "ioredis"],
  ["shared/api/a.ts", "bullmq", "bullmq"],
  ["edge/app.ts", "../worker/env.ts", "worker/env.ts"],
  ["edge/app.ts", "../infra/stack/port.ts", "infra/stack/port.ts"],
  ["edge/app.ts", "node:fs", "node:fs"],
  ["worker/env.ts", "../edge/app.ts", "edge/app.ts"],
  ["worker/env.ts", "../infra/stack/port.ts", "infra/stack/port.ts"],
  ["worker/env.ts", "hono/streaming", "hono/streaming"],
  ["worker/main.ts", "./engine/thread.ts", "worker/engine/thread.ts"],
  ["worker/engine-client/client.ts", "../engine/thread.ts", "worker/engine/thread.ts"],
  ["worker/engine/thread.ts", "../env.ts", "worker/env.ts"],
  ["worker/engine/thread.ts", "../engine-client/client.ts", "worker/engine-client/client.ts"],
  ["worker/engine/decode/sampler.ts", "../output.ts", "worker/engine/output.ts"],
  ["worker/engine/decode/sampler.ts", "../../../shared/a.ts", "shared/a.ts"],
  ["worker/engine/decode/sampler.ts", "refa", "refa"],
])("%s may not import %s", ([file, name, target]) => {
  const violations = violationsIn({ [file!]: `import type { A } from "${name}";` });
  expect(violations.length).toBeGreaterThan(0);
  for (const violation of violations) {
    expect(violation).toMatch(`${file} may not import ${target}: `);
  }
});

test("imports that the rules allow are accepted", () => {
  expect(
    violationsIn({
      "shared/api/a.ts": `import * as v from "valibot"; import { b } from "../edge-cases/b.ts";`,
      "edge/app.ts": `import { Hono } from "hono"; import { Redis } from "ioredis";`,
      "worker/engine-client/client.ts": `import { Worker } from "node:worker_threads";`,
      "worker/engine/thread.ts": `import type { M } from "../engine-client/messages.ts";`,
      "worker/engine/decode/sampler.ts": `import { noise } from "./noise.ts";`,
      "worker/engine/loop/batch.ts": `import { pick } from "../decode/sampler.ts"; import "refa";`,
      "infra/cli/models.ts": `import { prepare } from "../../worker/engine/model/files.ts";`,
    }),
  ).toEqual([]);
});
