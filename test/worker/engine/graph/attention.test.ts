/** What is read from a graph of its attention: windows, switches by length, soft caps. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { attentionWindow } from "../../../../worker/engine/graph/attention-window.ts";
import { inspectGraph } from "../../../../worker/engine/graph/inspect.ts";
import { lengthSwitch } from "../../../../worker/engine/graph/length-switch.ts";
import { int64Constant, standardNode } from "../../../../worker/engine/graph/nodes.ts";
import { hasSoftCap } from "../../../../worker/engine/graph/soft-cap.ts";
import { prepareDecoder } from "../../../../worker/engine/model/model-folder.ts";
import { copyOf, VECTORS } from "../../../support/model-folder.ts";

const node = standardNode;
const facts = (model: string) => inspectGraph(join(VECTORS, model, "onnx/model.onnx"));

describe("the attention window of a graph", () => {
  test.each([
    ["mixed/base", 8],
    ["gemma2/base", 8],
    ["gemma3_text/base", 8],
    ["llama/base", null],
    ["qwen2/base", null],
    ["gpt2/base", null],
    ["gpt_neox/base", null],
    ["deepseek_v3/base", null],
    ["gqa/base", null],
  ])("%s: %s", (model, window) => {
    expect(attentionWindow(facts(model))).toBe(window);
  });

  const row = [node("Range", ["attention_mask"], "row"), node("Range", ["position_ids"], "column")];
  const weights = new Map([
    ["four", 4],
    ["minus nine", -9],
  ]);
  test.each([
    [
      "chunks, by a division",
      [
        node("Div", ["row", "four"], "a"),
        node("Div", ["column", "four"], "b"),
        node("Equal", ["a", "b"], "same"),
      ],
      4,
    ],
    [
      "a distance that is compared with a number",
      [node("Sub", ["row", "column"], "distance"), node("Less", ["distance", "four"], "near")],
      4,
    ],
    [
      "a negative number that is added",
      [node("Add", ["row", "minus nine"], "first"), node("Greater", ["column", "first"], "near")],
      9,
    ],
    ["a causal mask", [node("LessOrEqual", ["column", "row"], "causal")], null],
    ["a length that is compared with a number", [node("Greater", ["row", "four"], "long")], null],
  ])("is found in %s", (_, nodes, window) => {
    expect(attentionWindow({ nodes: [...row, ...nodes], weights })).toBe(window);
  });
});

describe("a window under a name that is not known", () => {
  const key = { sliding_window: null, local_attention: 8 };
  const prepare = (folder: string) => prepareDecoder(folder, { dtype: "fp32", intraOpThreads: 1 });

  test("shows in the comparison of logits", async () => {
    expect(await prepare(copyOf("mixed/base", key))).toMatchObject({ variant: "original" });
  });

  test("shows also if it is longer than the tokens of the comparison", async () => {
    const folder = copyOf("mixed/base", { ...key, max_position_embeddings: 256 });
    const file = join(folder, "onnx/model.onnx");
    setConstant(file, "/model/Constant_19_output_0", [8n, 96n]);
    expect(attentionWindow(inspectGraph(file))).toBe(96);
    expect(await prepare(folder)).toMatchObject({
      variant: "original",
      fallbackReason: expect.stringContaining("would change its logits by"),
    });
  });

  test("is found in the graph if no comparison has room for it", async () => {
    const folder = copyOf("mixed/base", { ...key, max_position_embeddings: 32_768 });
    setConstant(join(folder, "onnx/model.onnx"), "/model/Constant_19_output_0", [8n, 16_384n]);
    expect(await prepare(folder)).toMatchObject({
      variant: "original",
      fallbackReason: "its attention has a window of 16384 tokens",
    });
  });

  /** Changes the value of a Constant node in a file. */
  function setConstant(file: string, output: string, [from, to]: readonly [bigint, bigint]): void {
    const bytes = readFileSync(file);
    const value = Buffer.alloc(8);
    value.writeBigInt64LE(from);
    const at = bytes.indexOf(value, bytes.indexOf(output));
    bytes.writeBigInt64LE(to, at);
    writeFileSync(file, bytes);
  }
});

describe("a switch by length", () => {
  /** The form of onnxruntime-genai's builder: the width of the mask decides. */
  const width = [
    node("Shape", ["attention_mask"], "shape"),
    int64Constant("one", [1n]),
    node("Gather", ["shape", "one"], "width"),
  ];
  const weights = new Map<string, number | null>([
    ["4096", 4096],
    ["short", null],
    ["long", null],
    ["zero", 0],
    ["lowest", -1e9],
  ]);
  test.each([
    [
      "an If",
      [node("Greater", ["width", "4096"], "is long"), node("If", ["is long"], "cos")],
      4096,
    ],
    [
      "an If with the sides exchanged",
      [node("LessOrEqual", ["4096", "width"], "is long"), node("If", ["is long"], "cos")],
      4095,
    ],
    [
      "an If with another relation",
      [
        node("Less", ["width", "4096"], "is short"),
        node("Not", ["is short"], "is long"),
        node("If", ["is long"], "cos"),
      ],
      4095,
    ],
    [
      "a Where between two weights",
      [
        node("Greater", ["width", "4096"], "is long"),
        node("Where", ["is long", "long", "short"], "f"),
      ],
      4096,
    ],
    [
      "a Where that makes a mask",
      [node("Greater", ["width", "4096"], "x"), node("Where", ["x", "zero", "lowest"], "mask")],
      null,
    ],
    ["an If of another input", [node("If", ["use_cache_branch"], "y")], null],
  ])("%s", (_, nodes, tokens) => {
    expect(lengthSwitch({ nodes: [...width, ...nodes], weights })).toBe(tokens);
  });

  test("that cannot be read is refused", () => {
    const nodes = [...width, node("Mod", ["width", "4096"], "x"), node("If", ["x"], "y")];
    expect(() => lengthSwitch({ nodes, weights })).toThrow("cannot be read");
  });
});

test.each([
  ["gemma2/base", true],
  ["gemma3_text/base", false],
  ["gpt2/base", false],
  ["llama/base", false],
])("a soft cap of %s: %s", (model, expected) => {
  expect(hasSoftCap(facts(model))).toBe(expected);
});
