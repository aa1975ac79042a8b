/**
 * int8 as onnx-community publishes it (`model_quantized.onnx`): weights with one scale per column, activations with one
 * scale per tensor, made while running. The nodes are those of onnxruntime's quantize_dynamic, which it fuses when loading.
 */
import { integerAttribute, type Graph, type Node, type Value } from "./onnx.ts";

/** Replaces every MatMul with a weight. */
export function quantize({ nodes, weights }: Graph): Graph {
  const kept = new Map(weights);
  const transposed = transposedWeights(nodes, weights);
  const quantized = new Set<string>();
  const made: Node[] = [];
  for (const node of nodes) {
    const [input, name] = node.inputs as [string, string];
    const weight = node.op === "MatMul" ? (weights.get(name) ?? transposed.get(name)) : undefined;
    if (!weight) {
      // What only made a quantized weight is gone with it.
      if (!transposed.has(node.outputs[0]!)) made.push(node);
      continue;
    }
    const { values, scales } = quantizeColumns(weight);
    const scale = `${name}.scale`;
    kept.delete(name);
    kept.set(`${name}.int8`, values).set(scale, scales);
    kept.set(`${name}.zero`, { dims: [weight.dims[1]!], data: new Int8Array(weight.dims[1]!) });
    const [activation, activationScale, activationZero] = ["u8", "scale", "zero"].map(
      (part) => `${input}.${part}`,
    );
    if (!quantized.has(input)) {
      quantized.add(input);
      made.push(
        plain("DynamicQuantizeLinear", [input], [activation!, activationScale!, activationZero!]),
      );
    }
    const [output] = node.outputs as [string];
    made.push(
      plain(
        "MatMulInteger",
        [activation!, `${name}.int8`, activationZero!, `${name}.zero`],
        [`${output}.i32`],
      ),
      {
        ...plain("Cast", [`${output}.i32`], [`${output}.f32`]),
        attributes: [integerAttribute("to", 1)],
      },
      plain("Mul", [activationScale!, scale], [`${output}.scale`]),
      plain("Mul", [`${output}.f32`, `${output}.scale`], [output]),
    );
  }
  return { nodes: made, weights: kept };
}

const plain = (op: string, inputs: readonly string[], outputs: readonly string[]): Node => ({
  op,
  inputs,
  outputs,
  attributes: [],
});

/** A tied output matrix is the embedding, transposed by a node. */
function transposedWeights(nodes: readonly Node[], weights: Graph["weights"]): Map<string, Value> {
  const found = new Map<string, Value>();
  for (const { op, inputs, outputs } of nodes) {
    const weight = op === "Transpose" ? weights.get(inputs[0]!) : undefined;
    if (!weight) continue;
    const [rows, columns] = weight.dims as [number, number];
    const data = new Float32Array(rows * columns);
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        data[column * rows + row] = Number(weight.data[row * columns + column]);
      }
    }
    found.set(outputs[0]!, { dims: [columns, rows], data });
  }
  return found;
}

function quantizeColumns({ dims, data }: Value): { values: Value; scales: Value } {
  const columns = dims[1]!;
  const weights = data as Float32Array;
  const largest = new Float32Array(columns);
  for (let i = 0; i < weights.length; i++) {
    largest[i % columns] = Math.max(largest[i % columns]!, Math.abs(weights[i]!));
  }
  // A column of zeros has no scale of its own.
  const scales = largest.map((value) => (value === 0 ? 1 : value / 127));
  const values = new Int8Array(weights.length);
  for (let i = 0; i < weights.length; i++)
    values[i] = Math.round(weights[i]! / scales[i % columns]!);
  return { values: { dims, data: values }, scales: { dims: [columns], data: scales } };
}
