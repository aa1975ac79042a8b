/**
 * Quantizes a graph to int8 like onnx-community (`model_quantized.onnx`): weights have one scale per column, activations one
 * scale per tensor that is computed at run time. The nodes are those of onnxruntime's quantize_dynamic, which onnxruntime
 * fuses when it loads the graph.
 */
import { integerAttribute, type GraphNode } from "../../../worker/engine/graph/nodes.ts";
import { DATA_TYPE } from "../../../worker/engine/graph/onnx-proto.ts";
import type { Graph, Tensor } from "./onnx.ts";

/** Replaces every MatMul whose second factor is a weight. */
export function quantize({ nodes, weights }: Graph): Graph {
  const kept = new Map(weights);
  const transposed = transposedWeights(nodes, weights);
  const quantized = new Set<string>();
  const quantizedNodes: GraphNode[] = [];
  for (const node of nodes) {
    const [input, name] = node.inputs as [string, string];
    const weight = node.op === "MatMul" ? (weights.get(name) ?? transposed.get(name)) : undefined;
    if (!weight) {
      // A Transpose that only computed a quantized weight is removed.
      if (!transposed.has(node.outputs[0]!)) quantizedNodes.push(node);
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
      quantizedNodes.push(
        simpleNode(
          "DynamicQuantizeLinear",
          [input],
          [activation!, activationScale!, activationZero!],
        ),
      );
    }
    const [output] = node.outputs as [string];
    quantizedNodes.push(
      simpleNode(
        "MatMulInteger",
        [activation!, `${name}.int8`, activationZero!, `${name}.zero`],
        [`${output}.i32`],
      ),
      {
        ...simpleNode("Cast", [`${output}.i32`], [`${output}.f32`]),
        attributes: [integerAttribute("to", DATA_TYPE.float)],
      },
      simpleNode("Mul", [activationScale!, scale], [`${output}.scale`]),
      simpleNode("Mul", [`${output}.f32`, `${output}.scale`], [output]),
    );
  }
  return { nodes: quantizedNodes, weights: kept };
}

const simpleNode = (
  op: string,
  inputs: readonly string[],
  outputs: readonly string[],
): GraphNode => ({
  op,
  domain: null,
  inputs,
  outputs,
  attributes: [],
});

/** Weights that a Transpose node computes: a tied output matrix is the transposed embedding. */
function transposedWeights(
  nodes: readonly GraphNode[],
  weights: Graph["weights"],
): Map<string, Tensor> {
  const found = new Map<string, Tensor>();
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

function quantizeColumns({ dims, data }: Tensor): { values: Tensor; scales: Tensor } {
  const columns = dims[1]!;
  const weights = data as Float32Array;
  const largest = new Float32Array(columns);
  for (let i = 0; i < weights.length; i++) {
    largest[i % columns] = Math.max(largest[i % columns]!, Math.abs(weights[i]!));
  }
  // For a column of zeros any scale is right.
  const scales = largest.map((value) => (value === 0 ? 1 : value / 127));
  const values = new Int8Array(weights.length);
  for (let i = 0; i < weights.length; i++)
    values[i] = Math.round(weights[i]! / scales[i % columns]!);
  return { values: { dims, data: values }, scales: { dims: [columns], data: scales } };
}
