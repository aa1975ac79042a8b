import {
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join, relative } from "node:path";
import { describe, expect, test } from "vitest";
import { findGraph } from "../../../../worker/engine/model/graph-files.ts";
import { readConfig } from "../../../../worker/engine/model/model-config.ts";
import { inspectModel, loadDecoder } from "../../../../worker/engine/model/model-folder.ts";
import { moveWeights } from "../../../support/external-weights.ts";
import { copyOf } from "../../../support/model-folder.ts";
import { folderOf } from "../../../support/tokenizers.ts";

const POINTER =
  "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";

describe("a graph is found", () => {
  const all = {
    "onnx/model.onnx": "",
    "onnx/model_fp16.onnx": "",
    "onnx/model_quantized.onnx": "",
    "onnx/model_uint8.onnx": "",
    "onnx/model_bnb4.onnx": "",
  };
  test.each([
    ["fp32", all, "onnx/model.onnx"],
    ["fp16", all, "onnx/model_fp16.onnx"],
    ["q8", all, "onnx/model_quantized.onnx"],
    ["int8", all, "onnx/model_quantized.onnx"],
    ["uint8", all, "onnx/model_uint8.onnx"],
    ["bnb4", all, "onnx/model_bnb4.onnx"],
    ["q8", { ...all, "onnx/model_q8.onnx": "" }, "onnx/model_q8.onnx"],
    ["int8", { ...all, "onnx/model_int8.onnx": "" }, "onnx/model_int8.onnx"],
    ["fp32", { "model.onnx": "" }, "model.onnx"],
    ["q4", { "model.onnx": "", "model_q4.onnx": "" }, "model_q4.onnx"],
    ["fp32", { "onnx/decoder_model_merged.onnx": "" }, "onnx/decoder_model_merged.onnx"],
  ] as const)("%s among %o: %s", (dtype, files, expected) => {
    const path = folderOf(files);
    expect(relative(path, findGraph({ path, dtype }))).toBe(expected);
  });

  test("under any name that `file` has", () => {
    const path = folderOf({ "cpu/int4.onnx": "" });
    expect(findGraph({ path, dtype: "fp32", file: "cpu/int4.onnx" })).toBe(
      join(path, "cpu/int4.onnx"),
    );
  });

  test("a format that is not there is refused with the files that are", () => {
    const path = folderOf({ "model.onnx": "", "onnx/model_q4.onnx": "" });
    expect(() => findGraph({ path, dtype: "fp16" })).toThrow(
      `${path}/onnx/model_fp16.onnx does not exist. There is model.onnx, onnx/model_q4.onnx`,
    );
  });
});

test("a folder of onnxruntime-genai's builder has its values in genai_config.json", () => {
  const decoder = {
    filename: "decoder.onnx",
    head_size: 16,
    num_attention_heads: 8,
    num_key_value_heads: 2,
  };
  const path = folderOf({
    "decoder.onnx": "",
    "genai_config.json": {
      model: { type: "llama", context_length: 77, eos_token_id: [3, 4], decoder },
    },
  });
  expect(findGraph({ path, dtype: "fp32" })).toBe(join(path, "decoder.onnx"));
  expect(readConfig(path)).toMatchObject({
    contextTokens: 77,
    eosIds: [3, 4],
    kvHeads: 2,
    headDim: 16,
  });
});

describe("a snapshot of the Hugging Face cache", () => {
  /** Moves all files of a model folder to blobs, and links them. */
  function toSnapshot(folder: string): { snapshot: string; blobs: string } {
    const cache = folderOf({});
    const [blobs, snapshot] = [join(cache, "blobs"), join(cache, "snapshots/abc")];
    mkdirSync(blobs);
    mkdirSync(join(snapshot, "onnx"), { recursive: true });
    const files = ["config.json", "onnx/model.onnx", "onnx/model.onnx_data"];
    for (const [i, name] of files.entries()) {
      const blob = join(blobs, String(i).repeat(64));
      renameSync(join(folder, name), blob);
      const link = join(snapshot, name);
      symlinkSync(relative(join(link, ".."), blob), link);
    }
    return { snapshot, blobs };
  }

  test("with external weights runs prepared, and nothing is written among the blobs", async () => {
    const folder = copyOf("llama/base");
    moveWeights(join(folder, "onnx/model.onnx"), join(folder, "onnx/model.onnx_data"));
    const { snapshot, blobs } = toSnapshot(folder);
    for (const load of ["first", "next"]) {
      const decoder = await loadDecoder(snapshot, { dtype: "fp32", intraOpThreads: 1 });
      expect([load, decoder.fallbackReason]).toEqual([load, null]);
      expect(readdirSync(blobs)).toHaveLength(3);
    }
    expect(readdirSync(join(snapshot, "onnx"))).toContain("model.prepared.onnx");
  });
});

describe("a file that is not what it should be is named", () => {
  const external = () => {
    const path = copyOf("llama/base");
    moveWeights(join(path, "onnx/model.onnx"), join(path, "onnx/model.onnx_data"));
    return path;
  };
  test.each<[string, () => string, RegExp]>([
    [
      "a graph that is a git-LFS pointer",
      () => folderOf({ "onnx/model.onnx": POINTER }),
      /model\.onnx: It is a git-LFS pointer/,
    ],
    [
      "a truncated graph",
      () => {
        const path = copyOf("llama/base");
        truncateSync(join(path, "onnx/model.onnx"), 30_000);
        return path;
      },
      /model\.onnx: The graph file ends within a field: it is truncated/,
    ],
    [
      "missing weights",
      () => {
        const path = external();
        rmSync(join(path, "onnx/model.onnx_data"));
        return path;
      },
      /its weights .*model\.onnx_data do not exist/,
    ],
    [
      "truncated weights",
      () => {
        const path = external();
        const data = join(path, "onnx/model.onnx_data");
        truncateSync(data, readFileSync(data).length / 2);
        return path;
      },
      /its weights .*model\.onnx_data are truncated: \d+ of at least \d+ bytes/,
    ],
    [
      "weights that are a git-LFS pointer",
      () => {
        const path = external();
        writeFileSync(join(path, "onnx/model.onnx_data"), POINTER);
        return path;
      },
      /its weights .*model\.onnx_data: It is a git-LFS pointer/,
    ],
    ["a text", () => folderOf({ "onnx/model.onnx": "" }), /not an ONNX model/],
  ])("%s", async (_, create, message) => {
    await expect(inspectModel({ path: create(), dtype: "fp32" })).rejects.toThrow(message);
  });

  test("a config.json that is a git-LFS pointer", () => {
    const path = folderOf({ "config.json": POINTER });
    expect(() => readConfig(path)).toThrow(/config\.json: It is a git-LFS pointer/);
  });
});
