/**
 * A decoder graph small enough to write down: the two logits of a token are the sum of all ids that the mask shows,
 * and twice that. Its cache holds the ids. Field numbers are those of onnx.proto3.
 */
import { Writer } from "protobufjs/minimal.js";

export interface TinyGraph {
  readonly type: "float32" | "float16";
  /** `present` is a copy of what Concat makes. */
  readonly hidesConcat?: boolean;
  /** The sum is over all rows of the cache, and even an empty row counts. */
  readonly ignoresMask?: boolean;
}

const INT64 = 7;
const FLOAT = 1;
const FLOAT16 = 10;

type Attribute = readonly [name: string, value: number | readonly number[]];

/** The bytes of its model file. It decodes one token a run, as its sums are not causal. */
export function tinyGraph({ type, hidesConcat, ignoresMask }: TinyGraph): Uint8Array {
  const element = type === "float16" ? FLOAT16 : FLOAT;
  const made = hidesConcat ? "made" : "present.0.key";
  const nodes = [
    node("Cast", ["input_ids"], "id", ["to", element]),
    node("Unsqueeze", ["id"], "row", ["axes", [1, 3]]),
    node("Cast", ["row"], "wide", ["to", FLOAT]),
    node("Add", ["wide", "wide"], "twice"),
    node("Cast", ["twice"], "double", ["to", element]),
    node("Concat", ["row", "double"], "rows", ["axis", 3]),
    node("Concat", ["past_key_values.0.key", "rows"], made, ["axis", 2]),
    ...(hidesConcat ? [node("Identity", [made], "present.0.key")] : []),
    node("Cast", [made], "ids", ["to", FLOAT]),
    node("Cast", ["attention_mask"], "mask", ["to", FLOAT]),
    node("Unsqueeze", ["mask"], "shown", ["axes", [1, 3]]),
    ignoresMask ? node("Sigmoid", ["ids"], "seen") : node("Mul", ["ids", "shown"], "seen"),
    node("ReduceSum", ["seen"], "sums", ["axes", [1, 2]], ["keepdims", 0]),
    node("Unsqueeze", ["sums"], "positions", ["axes", [1]]),
    node("Cast", ["positions"], "logits", ["to", element]),
  ];
  const graph = Writer.create();
  for (const bytes of nodes) graph.uint32(key(1)).bytes(bytes);
  graph.uint32(key(2)).string("tiny");
  for (const name of ["input_ids", "attention_mask", "position_ids"]) {
    const axis = name === "attention_mask" ? "total" : "tokens";
    graph.uint32(key(11)).bytes(value(name, INT64, ["batch", axis]));
  }
  const cache = ["batch", 1, "past", 2];
  graph.uint32(key(11)).bytes(value("past_key_values.0.key", element, cache));
  graph.uint32(key(12)).bytes(value("present.0.key", element, cache));
  graph.uint32(key(12)).bytes(value("logits", element, ["batch", "tokens", 2]));
  const model = Writer.create()
    .uint32(1 << 3)
    .uint32(6);
  model.uint32(key(7)).bytes(graph.finish());
  // Operator set 11: axes are still attributes.
  model
    .uint32(key(8))
    .fork()
    .uint32(key(1))
    .string("")
    .uint32(2 << 3)
    .uint32(11)
    .ldelim();
  return model.finish();
}

function node(
  operator: string,
  inputs: readonly string[],
  output: string,
  ...attributes: Attribute[]
): Uint8Array {
  const writer = Writer.create();
  for (const input of inputs) writer.uint32(key(1)).string(input);
  writer.uint32(key(2)).string(output).uint32(key(4)).string(operator);
  for (const [name, value] of attributes) {
    const isList = typeof value !== "number";
    writer.uint32(key(5)).fork().uint32(key(1)).string(name);
    if (isList) for (const item of value) writer.uint32(8 << 3).uint32(item);
    else writer.uint32(3 << 3).uint32(value);
    writer
      .uint32(20 << 3)
      .uint32(isList ? 7 : 2)
      .ldelim();
  }
  return writer.finish();
}

function value(name: string, element: number, shape: readonly (string | number)[]): Uint8Array {
  const writer = Writer.create().uint32(key(1)).string(name);
  writer
    .uint32(key(2))
    .fork()
    .uint32(key(1))
    .fork()
    .uint32(1 << 3)
    .uint32(element);
  writer.uint32(key(2)).fork();
  for (const axis of shape) {
    writer.uint32(key(1)).fork();
    if (typeof axis === "number") writer.uint32(1 << 3).uint32(axis);
    else writer.uint32(key(2)).string(axis);
    writer.ldelim();
  }
  return writer.ldelim().ldelim().ldelim().finish();
}

/** Tag of a length-delimited field. */
const key = (field: number) => (field << 3) | 2;
