import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { copyOf, modelFolder, passthroughCopyOf } from "../../support/model-folder.ts";
import { folderOf } from "../../support/tokenizers.ts";

/** Runs `npm run models -- prepare …`. @returns its output, as lines of words */
function prepare(...folders: string[]): { status: number | null; out: string[][]; err: string } {
  const args = ["infra/cli/models.ts", "prepare", ...folders];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: "utf8" });
  const out = stdout
    .trim()
    .split("\n")
    .map((line) => line.trim().split(/ {2,}/));
  return { status, out, err: stderr };
}

test("graphs are prepared, and a table shows the variant and the change of the logits", () => {
  const [split, original] = [copyOf("llama/base"), passthroughCopyOf("llama/base")];
  const change = expect.stringMatching(/^\d\.\de-\d+$/) as string;
  expect(prepare(split, original)).toMatchObject({
    status: 0,
    out: [
      [split],
      ["file", "variant", "single", "batched"],
      ["model.onnx", "split", change, change],
      [original],
      ["file", "variant", "single", "batched"],
      ["model.onnx", "original", "its attention stays within chunks of the context"],
    ],
  });
  expect(existsSync(join(split, "onnx/model.prepared.onnx"))).toBe(true);
});

test("a folder without graphs is refused in one line", () => {
  const folder = folderOf({ "config.json": {} });
  const err = `${folder} has no graph such as ${folder}/onnx/model.onnx\n`;
  expect(prepare(folder)).toMatchObject({ status: 1, err });
});

describe("models -- check", () => {
  const check = (manifest: object, ...options: string[]) => {
    const file = join(folderOf({ "ensembles.json": manifest }), "ensembles.json");
    const args = ["infra/cli/models.ts", "check", file, ...options];
    const { status, stdout } = spawnSync(process.execPath, args, { encoding: "utf8" });
    return { status, out: stdout.split("\n") };
  };
  const manifestOf = (path: string, expert: object = { path }) => {
    const model = { path };
    return { ensembles: [{ id: "tiny", base: model, expert, antiexpert: model }] };
  };

  test("prints a table, writes the report, and exits with 0 if a worker would start", () => {
    const path = modelFolder({ eos: 3, chatTemplate: "{{ messages[0].content }}" });
    const json = join(path, "report.json");
    const { status, out } = check(manifestOf(path), "--json", json);
    expect(status).toBe(0);
    expect(out[0]).toMatch(/^tiny: context 64, KV caches for jobs of \d+$/);
    expect(out[2]).toMatch(/base .*onnx\/model\.onnx +1 +split expected +64 +3 +folder$/);
    expect(out.at(-2)).toBe("A worker would start.");
    expect(JSON.parse(readFileSync(json, "utf8"))).toMatchObject({ ok: true, problems: [] });
  });

  test("exits with 1 if it would not, with each reason", () => {
    const path = modelFolder({ eos: 3 });
    const manifest = manifestOf(path, { path, dtype: "q4" });
    const { status, out } = check(manifest, "--memory-mib", "1");
    expect(status).toBe(1);
    expect(out.filter((line) => line.startsWith("error: "))).toEqual([
      `error: tiny, expert: ${path}/onnx/model_q4.onnx does not exist. There is onnx/model.onnx`,
      expect.stringMatching(
        /^error: a worker needs about \d+ MiB of memory, and this machine has 1 MiB/,
      ),
    ]);
    expect(out.at(-2)).toBe("A worker would not start: 2 errors.");
  });
});
