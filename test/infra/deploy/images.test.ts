/** The Dockerfiles, as far as no Docker engine is needed. */
import { existsSync, globSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { expect, test } from "vitest";

const ROOT = join(import.meta.dirname, "../../..");
const files = globSync(join(ROOT, "infra/deploy/*Dockerfile"));

test.for(files.map((file) => [basename(file), file] as const))(
  "%s copies only files that exist",
  ([, file]) => {
    const sources = [...readFileSync(file, "utf8").matchAll(/^COPY (?!.*--from=)(.+)$/gm)].flatMap(
      ([, paths]) => paths!.split(/\s+/).slice(0, -1),
    );
    expect(sources.length).toBeGreaterThan(3);
    expect(sources.filter((source) => !existsSync(join(ROOT, source)))).toEqual([]);
  },
);

test("the image for GPUs takes the CUDA provider of the onnxruntime-node that is installed", () => {
  const requirements = readFileSync(join(ROOT, "infra/deploy/cuda-requirements.txt"), "utf8");
  const { dependencies } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as {
    dependencies: Record<string, string>;
  };
  expect(requirements).toContain(`\nonnxruntime-gpu==${dependencies["onnxruntime-node"]} `);
});
