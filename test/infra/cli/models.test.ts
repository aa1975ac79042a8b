import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { copyOf } from "../../support/model-folder.ts";
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
  const [split, original] = [copyOf("llama/base"), copyOf("gemma2/base")];
  const change = expect.stringMatching(/^\d\.\de-\d+$/) as string;
  expect(prepare(split, original)).toMatchObject({
    status: 0,
    out: [
      [split],
      ["file", "variant", "single", "batched"],
      ["model.onnx", "split", change, change],
      [original],
      ["file", "variant", "single", "batched"],
      ["model.onnx", "original", "it has no input position_ids"],
    ],
  });
  expect(existsSync(join(split, "onnx/model.prepared.onnx"))).toBe(true);
});

test("a folder without graphs is refused in one line", () => {
  const folder = folderOf({ "config.json": {} });
  const err = `${folder} has no graph such as ${folder}/onnx/model.onnx\n`;
  expect(prepare(folder)).toMatchObject({ status: 1, err });
});
