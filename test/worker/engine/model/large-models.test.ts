/** Forms in which large models come: bfloat16, weights in several files, tied embeddings, contexts beyond 32,768 tokens. */
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { Decoder } from "../../../../worker/engine/decoder/decoder.ts";
import { LOGITS } from "../../../../worker/engine/decoder/graph-io.ts";
import { createSession } from "../../../../worker/engine/decoder/session.ts";
import { readModelFile } from "../../../../worker/engine/graph/model-file.ts";
import type { GraphNode } from "../../../../worker/engine/graph/nodes.ts";
import { GRAPH_PROTO, MODEL_PROTO } from "../../../../worker/engine/graph/onnx-proto.ts";
import { rawFields, readNode } from "../../../../worker/engine/graph/onnx-wire.ts";
import { loadDecoder } from "../../../../worker/engine/model/model-folder.ts";
import { roundedGraph } from "../../../support/bfloat16-graph.ts";
import { moveWeights } from "../../../support/external-weights.ts";
import { copyOf } from "../../../support/model-folder.ts";
import { folderOf } from "../../../support/tokenizers.ts";
import { tinyGraph } from "../../../support/tiny-graph.ts";

const OPTIONS = { dtype: "fp32", intraOpThreads: 1 } as const;
const graphIn = (folder: string) => join(folder, "onnx/model.onnx");

async function logitsOf(folder: string): Promise<Float32Array[]> {
  const decoder = await loadDecoder(folder, OPTIONS);
  expect(decoder.fallbackReason).toBeNull();
  const sequence = decoder.open();
  return [
    ...(await decoder.score(sequence, [1, 2, 3])),
    ...(await decoder.decode([{ sequence, id: 4 }])),
  ];
}

describe("an export in bfloat16", () => {
  test.each(["llama/base", "gqa/base"])(
    "of %s has the logits of its weights in float32",
    async (name) => {
      const [stored, same] = (["bfloat16", "float32"] as const).map((type) => {
        const folder = copyOf(name);
        writeFileSync(graphIn(folder), roundedGraph(readFileSync(graphIn(folder)), type));
        return folder;
      });
      moveWeights(graphIn(stored!), `${graphIn(stored!)}_data`);
      await expect(createSession(graphIn(stored!), { intraOpThreads: 1 })).rejects.toThrow(
        /ind an implementation|INVALID_GRAPH|Type Error/,
      );
      expect(await logitsOf(stored!)).toEqual(await logitsOf(same!));
    },
  );

  test("that cannot be prepared is refused with a remedy", async () => {
    const folder = folderOf({ "config.json": {}, "onnx/.keep": "" });
    const graph = tinyGraph({ type: "float32", hidesConcat: true });
    writeFileSync(graphIn(folder), roundedGraph(graph, "bfloat16"));
    await expect(loadDecoder(folder, OPTIONS)).rejects.toThrow(
      "it is in bfloat16 and cannot be prepared, so export it in float32 or float16: its KV cache",
    );
  });
});

test("weights in several files stay there, and a prepared graph has only their places", async () => {
  const [whole, divided] = [copyOf("llama/base"), copyOf("llama/base")];
  moveWeights(graphIn(divided), `${graphIn(divided)}_data`);
  // Moves the second half of the references, too.
  const graph = readFileSync(graphIn(divided)).toString("latin1");
  const middle = graph.indexOf("model.onnx_data", graph.length / 2);
  expect(middle).toBeGreaterThan(0);
  const moved = graph.slice(middle).replaceAll("model.onnx_data", "model.onnx_dat2");
  writeFileSync(graphIn(divided), Buffer.from(graph.slice(0, middle) + moved, "latin1"));
  writeFileSync(join(divided, "onnx/model.onnx_dat2"), readFileSync(`${graphIn(divided)}_data`));
  expect(await logitsOf(divided)).toEqual(await logitsOf(whole));
  const sizes = ["onnx/model.prepared.onnx", "onnx/model.onnx_data"].map(
    (name) => statSync(join(divided, name)).size,
  );
  expect(readModelFile(graphIn(whole)).length).toBeLessThan(sizes[1]!);
  expect(readFileSync(join(divided, "onnx/model.prepared.onnx")).includes("model.onnx_dat2")).toBe(
    true,
  );
});

test("tied embeddings are one matrix for the lookup and the logits", async () => {
  const folder = new URL("../../../../infra/models/base/", import.meta.url).pathname;
  const decoder = await loadDecoder(folder, OPTIONS);
  expect(decoder.fallbackReason).toBeNull();
  const nodes = nodesOf(readFileSync(join(folder, "onnx/model.prepared.onnx")));
  const head = nodes.find(({ outputs }) => outputs[0] === LOGITS)!;
  const lookup = nodes.find(({ op, inputs }) => op === "Gather" && inputs[1] === "input_ids")!;
  expect([head.op, head.inputs[1]]).toEqual(["FusedMatMul", lookup.inputs[0]]);
  const weights = nodes.filter(
    ({ op, inputs }) => op === "Transpose" && inputs[0] === lookup.inputs[0],
  );
  expect(weights).toEqual([]);
});

function nodesOf(model: Uint8Array): GraphNode[] {
  return Array.from(rawFields(model))
    .filter(({ field }) => field === MODEL_PROTO.graph)
    .flatMap(({ content }) => [...rawFields(content)])
    .filter(({ field }) => field === GRAPH_PROTO.node)
    .map(({ content }) => readNode(content));
}

describe("a context of 40,000 tokens", () => {
  const TOKENS = 40_000;

  /** The logit of a token is the sum of all tokens before it and of itself; the graph is right with one token a run only. */
  function sumGraph(config: object): string {
    const folder = folderOf({
      "config.json": { max_position_embeddings: 65_536, ...config },
      "onnx/.keep": "",
    });
    writeFileSync(graphIn(folder), tinyGraph({ type: "float32" }));
    return folder;
  }

  async function withTokens(decoder: Decoder) {
    const sequence = decoder.open();
    const values = new Float32Array(2 * TOKENS).fill(1);
    decoder.kvRows!.append(sequence, [new Map([["past_key_values.0.key", values]])], TOKENS);
    return sequence;
  }

  test("is attended to as a whole, also beside a short sequence", async () => {
    const decoder = await loadDecoder(sumGraph({}), OPTIONS);
    const [long, short] = [await withTokens(decoder), decoder.open()];
    await decoder.prefill(short, [5]);
    const inputs = [long, short].map((sequence) => ({ sequence, id: 3 }));
    expect((await decoder.decode(inputs)).map(([sum]) => sum)).toEqual([TOKENS + 3, 8]);
    expect((await decoder.decode(inputs)).map(([sum]) => sum)).toEqual([TOKENS + 6, 11]);
  });

  test("takes new tokens in parts whose attention scores fit", async () => {
    // With so many heads a part has one token, and the probe's shorter runs are not divided.
    const decoder = await loadDecoder(sumGraph({ num_attention_heads: 1_024 }), OPTIONS);
    const sequence = await withTokens(decoder);
    await decoder.prefill(sequence, [3, 4]);
    const [first, second] = await decoder.score(sequence, [5, 6]);
    expect([first![0], second![0]]).toEqual([TOKENS + 12, TOKENS + 18]);
  });
});
