/**
 * Multiplies by transposed weights without a transposed copy. A model with tied embeddings has one matrix for tokens and for logits, and
 * exporters write `MatMul(hidden, Transpose(embeddings))`. onnxruntime computes the transposed matrix when it loads a graph, which takes its size
 * in memory once more: 1.0 of 2.5 GB for 128,256 tokens. `FusedMatMul` reads the matrix as it is.
 */
import { hasInnerGraphs } from "./inner-graphs.ts";
import { integerAttribute, type GraphNode } from "./nodes.ts";
import { ATTRIBUTE_PROTO, DATA_TYPE, MICROSOFT_DOMAIN } from "./onnx-proto.ts";
import { attributeNamed } from "./onnx-wire.ts";
import { readIntegers, withCasts, type WeightInfo } from "./weights.ts";

/**
 * @param nodes in topological order
 * @param outputs of the graph
 */
export function multiplyTransposed(
  nodes: readonly GraphNode[],
  weights: ReadonlyMap<string, WeightInfo>,
  outputs: readonly string[],
): readonly GraphNode[] {
  const matrices = float32Matrices(nodes, weights);
  const transposed = new Map(
    nodes.filter((node) => isTranspose(node, matrices)).map((node) => [node.outputs[0]!, node]),
  );
  if (transposed.size === 0) return nodes;
  const changed = nodes.map((node) => {
    const matrix = node.op === "MatMul" ? transposed.get(node.inputs[1]!)?.inputs[0] : undefined;
    if (matrix === undefined) return node;
    const attributes = [integerAttribute("transB", 1)];
    const inputs = [node.inputs[0]!, matrix];
    return { ...node, op: "FusedMatMul", domain: MICROSOFT_DOMAIN, inputs, attributes };
  });
  if (hasInnerGraphs(nodes)) return changed;
  const used = new Set([...changed.flatMap(({ inputs }) => inputs), ...outputs]);
  return changed.filter(({ outputs: [name] }) => used.has(name!) || !transposed.has(name!));
}

/** Weights by name, also the matrices that the graph transposes. */
export function withTransposed<W extends Pick<WeightInfo, "dims">>(
  nodes: readonly GraphNode[],
  weights: ReadonlyMap<string, W>,
): ReadonlyMap<string, W> {
  const matrices = new Set(
    Array.from(weights, ([name, { dims }]) => (dims.length === 2 ? name : "")),
  );
  const all = new Map(weights);
  for (const node of nodes) {
    if (!isTranspose(node, matrices)) continue;
    const weight = weights.get(node.inputs[0]!)!;
    all.set(node.outputs[0]!, { ...weight, dims: weight.dims.toReversed() });
  }
  return all;
}

/** Names of the matrices of weights in float32, also of those that are cast to it. */
function float32Matrices(
  nodes: readonly GraphNode[],
  weights: ReadonlyMap<string, WeightInfo>,
): ReadonlySet<string> {
  const isMatrix = ([, { dims, type }]: [string, Omit<WeightInfo, "name">]) =>
    dims.length === 2 && type === DATA_TYPE.float;
  return new Set([...withCasts(nodes, weights)].filter(isMatrix).map(([name]) => name));
}

function isTranspose(
  { op, inputs, attributes }: GraphNode,
  matrices: ReadonlySet<string>,
): boolean {
  if (op !== "Transpose" || !matrices.has(inputs[0]!)) return false;
  const order = attributeNamed(attributes, "perm");
  // The first axis of the result; without an order the axes are reversed.
  return !order || readIntegers(order, ATTRIBUTE_PROTO.ints)[0] === 1;
}
