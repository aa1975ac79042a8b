import { expect, test } from "vitest";
import {
  integerAttribute,
  standardNode as node,
  type GraphNode,
} from "../../../../worker/engine/graph/nodes.ts";
import { ATTRIBUTE_PROTO, DATA_TYPE } from "../../../../worker/engine/graph/onnx-proto.ts";
import { messageField, nodeField, readNode } from "../../../../worker/engine/graph/onnx-wire.ts";
import { multiplyTransposed } from "../../../../worker/engine/graph/tied-weights.ts";
import { node as encodedNode } from "../../../support/tiny-graph.ts";

const { float, float16 } = DATA_TYPE;
const WEIGHTS = new Map(
  [
    { name: "table", type: float, dims: [5, 4] },
    { name: "halves", type: float16, dims: [5, 4] },
    { name: "vector", type: float, dims: [4] },
  ].map((weight) => [weight.name, weight]),
);

/** In brief: `MatMul x,turned`. */
const brief = (nodes: readonly GraphNode[]) =>
  nodes.map(({ op, inputs }) => `${op} ${inputs.join()}`);
const changed = (nodes: readonly GraphNode[], outputs: readonly string[] = ["logits"]) =>
  brief(multiplyTransposed(nodes, WEIGHTS, outputs));
const transpose = (table: string, ...perm: number[]) =>
  readNode(encodedNode("Transpose", [table], "turned", ["perm", perm]));
const head = node("MatMul", ["x", "turned"], "logits");
const lookup = node("Gather", ["table", "input_ids"], "x");

test("a product of a transposed weight reads the weight, which may be looked up too", () => {
  const expected = ["Gather table,input_ids", "FusedMatMul x,table"];
  expect(changed([lookup, transpose("table", 1, 0), head])).toEqual(expected);
  expect(changed([lookup, node("Transpose", ["table"], "turned"), head])).toEqual(expected);
});

test("a weight that is cast to float32 is one too, another type is not", () => {
  const cast = node("Cast", ["halves"], "wide", [integerAttribute("to", float)]);
  expect(changed([cast, transpose("wide", 1, 0), head])).toEqual([
    "Cast halves",
    "FusedMatMul x,wide",
  ]);
  const nodes = [transpose("halves", 1, 0), head];
  expect(changed(nodes)).toEqual(brief(nodes));
});

test("an order that transposes nothing, a vector and a computed value stay", () => {
  for (const first of [transpose("table", 0, 1), transpose("vector", 0), transpose("x", 1, 0)]) {
    const nodes = [first, head];
    expect(changed(nodes)).toEqual(brief(nodes));
  }
});

test("a transposed weight stays for its other users", () => {
  const turned = transpose("table", 1, 0);
  const others = [head, node("MatMul", ["turned", "y"], "left")];
  expect(changed([turned, ...others])).toEqual([
    "Transpose table",
    "FusedMatMul x,table",
    "MatMul turned,y",
  ]);
  expect(changed([turned, head], ["logits", "turned"])).toEqual([
    "Transpose table",
    "FusedMatMul x,table",
  ]);
});

test("a transposed weight stays for inner graphs", () => {
  const inner = messageField(ATTRIBUTE_PROTO.g, [
    nodeField(node("Identity", ["turned"], "result")),
  ]);
  const choice = node("If", ["is_first"], "result", [inner]);
  expect(changed([transpose("table", 1, 0), head, choice])).toEqual([
    "Transpose table",
    "FusedMatMul x,table",
    "If is_first",
  ]);
});
