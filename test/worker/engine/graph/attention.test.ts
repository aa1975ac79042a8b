/** Chunks, windows, switches by length and soft caps of attention. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { attentionWindow } from "../../../../worker/engine/graph/attention-window.ts";
import { hasAttentionChunks } from "../../../../worker/engine/graph/attention-chunks.ts";
import { inspectGraph } from "../../../../worker/engine/graph/inspect.ts";
import { lengthSwitch } from "../../../../worker/engine/graph/length-switch.ts";
import {
  int64Constant,
  integerAttribute,
  standardNode,
  type GraphNode,
} from "../../../../worker/engine/graph/nodes.ts";
import { hasSoftCap } from "../../../../worker/engine/graph/soft-cap.ts";
import { loadOnDevice } from "../../../../worker/engine/model/load-graph.ts";
import { readConfig } from "../../../../worker/engine/model/model-config.ts";
import { loadDecoder, prepareDecoder } from "../../../../worker/engine/model/model-folder.ts";
import { largestDifference } from "../../../support/logits.ts";
import { changeNodes } from "../../../support/changed-graph.ts";
import { copyOf, passthroughCopyOf, VECTORS } from "../../../support/model-folder.ts";

const node = standardNode;
const facts = (model: string) => inspectGraph(join(VECTORS, model, "onnx/model.onnx"));

describe("chunks of attention", () => {
  test.each(["mixed", "gemma2", "gemma3_text", "llama", "gpt2", "deepseek_v3", "gqa"])(
    "%s has none",
    (model) => expect(hasAttentionChunks(facts(`${model}/base`))).toBe(false),
  );

  const row = [node("Range", ["attention_mask"], "row"), node("Range", ["position_ids"], "column")];
  const weights = new Map([["four", 4]]);
  test.each([
    ["positions are divided", "Div", true],
    ["positions are divided with a remainder", "Mod", true],
    ["a distance is compared (a window)", "Sub", false],
  ])("%s", (_, op, expected) => {
    const nodes = [
      node(op, ["row", "four"], "a"),
      node(op, ["column", "four"], "b"),
      node("Equal", ["a", "b"], "same"),
    ];
    expect(hasAttentionChunks({ nodes: [...row, ...nodes], weights })).toBe(expected);
  });
});

describe("the attention window of a graph", () => {
  test.each([
    ["mixed", 8],
    ["gemma2", 8],
    ["gemma3_text", 8],
    ["llama", null],
    ["gpt2", null],
    ["deepseek_v3", null],
    ["gqa", null],
  ])("%s: %s", (model, window) => {
    expect(attentionWindow(facts(`${model}/base`))).toBe(window);
  });

  const row = [node("Range", ["attention_mask"], "row"), node("Range", ["position_ids"], "column")];
  const weights = new Map([
    ["four", 4],
    ["minus nine", -9],
  ]);
  test.each([
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

test.each([
  ["mixed", true],
  ["gemma3_text", true],
  ["llama", false],
  ["gpt2", false],
])(
  "the tokens of %s have to end at the end of their cache rows: %s",
  async (model, countsEntries) => {
    const { variant, ...prepared } = await prepareDecoder(copyOf(`${model}/base`), OPTIONS);
    expect(["split", "concat"]).toContain(variant);
    expect(prepared.countsEntries).toBe(countsEntries);
  },
);

test("a graph with an attention window has the logits of its export beyond window and room", async () => {
  const [fast, exported] = [
    await load(join(VECTORS, "mixed/base")),
    await load(passthroughCopyOf("mixed/base")),
  ];
  expect([fast.fallbackReason, exported.fallbackReason]).toEqual([null, expect.any(String)]);
  const rows = [];
  for (const decoder of [fast, exported]) {
    const [long, short] = [decoder.open(), decoder.open()];
    const logits = await decoder.score(long, ids(20));
    logits.push(...(await decoder.score(short, ids(5))));
    // The longest row passes the first 64 entries of the cache, and the short one the window of 8.
    for (let step = 0; step < 50; step++) {
      const inputs = [long, short].map((sequence) => ({ sequence, id: 1 + step }));
      logits.push(...(await decoder.decode(inputs)));
    }
    rows.push(logits);
  }
  expect(largestDifference(rows[0]!, rows[1]!)).toBeLessThan(1e-4);
});

/** A model whose caches are as long as its window, with further changes. */
function shortCachesCopy(change: (node: GraphNode) => GraphNode = (each) => each): string {
  const folder = copyOf("gqa/window");
  const file = join(folder, "onnx/model.onnx");
  const attribute = integerAttribute("sliding_window_cache", 1);
  const model = changeNodes(readFileSync(file), (each) =>
    each.op === "GroupQueryAttention"
      ? change({ ...each, attributes: [...each.attributes, attribute] })
      : each,
  );
  writeFileSync(file, model);
  return folder;
}

test("GroupQueryAttention whose caches are as long as the window gets whole ones", async () => {
  const folder = shortCachesCopy();
  const source = { file: join(folder, "onnx/model.onnx"), config: readConfig(folder) };
  const prepared = [await load(folder), await load(join(VECTORS, "gqa/window"))];
  expect(prepared.map(({ fallbackReason }) => fallbackReason)).toEqual([null, null]);
  const rows = [];
  for (const decoder of [
    ...prepared,
    (await loadOnDevice({ ...source, options: OPTIONS })).decoder,
  ]) {
    const sequence = decoder.open();
    rows.push([
      ...(await decoder.score(sequence, ids(20))),
      ...(await decoder.score(sequence, ids(5))),
    ]);
  }
  expect(largestDifference(rows[0]!, rows[1]!)).toBeLessThan(1e-5);
  expect(largestDifference(rows[2]!, rows[1]!)).toBeLessThan(1e-5);
});

test("a graph with such caches that cannot be prepared is refused", async () => {
  const attentionBias = 10;
  const folder = shortCachesCopy((each) => {
    const inputs = Array.from({ length: attentionBias }, (_, i) => each.inputs[i] ?? "");
    return { ...each, inputs: [...inputs, each.inputs[0]!] };
  });
  await expect(load(folder)).rejects.toThrow("its caches of a window cannot be replaced: its KV");
});

const OPTIONS = { dtype: "fp32", intraOpThreads: 1 } as const;
const load = (folder: string) => loadDecoder(folder, OPTIONS);
const ids = (count: number) => Array.from({ length: count }, (_, i) => 1 + ((i * i) % 127));

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
