/**
 * Gives a graph the input `logits_start`: logits are computed of the new tokens from this one on. onnxruntime computes outputs that are not
 * fetched too, and a chunk of a prompt needs no logits: they are 13% of its processor time in the demo base (5.3M parameters, 2,048 tokens in
 * the vocabulary), and more in small models with a large vocabulary.
 */
import { LOGITS_START } from "../decoder/graph-io.ts";
import { int64Constant, standardNode, type GraphNode } from "./nodes.ts";

/** Operators that multiply each token's row with weights. */
const PRODUCT = /^(MatMul|FusedMatMul|MatMulNBits|MatMulBnb4|MatMulInteger|MatMulIntegerToFloat)$/;
/** Operators that compute each token's row from that row only, as long as reductions are those of row-scales.ts. */
const ROW_WISE =
  /^(Cast|Identity|Add|Sub|Mul|Div|Tanh|Abs|ReduceMax|Clip|QuantizeLinear|DequantizeLinear)$/;
const [END, AXIS] = ["wanted logits/end", "wanted logits/axis"] as const;
/** Slice takes it as the end of any axis. */
const LAST = 2n ** 63n - 1n;
const TOKEN_AXIS = 1n;

/**
 * Cuts the tokens before `logits_start` off the input of the last product with weights.
 * @param nodes in topological order
 * @param inputs names of the graph's inputs, without its weights
 * @returns null if the logits are computed in an unknown way
 */
export function limitLogits(
  nodes: readonly GraphNode[],
  inputs: ReadonlySet<string>,
  logits: string,
): GraphNode[] | null {
  const found = lastProduct(nodes, inputs, logits);
  if (!found) return null;
  const { hidden, head } = found;
  const wanted = `${hidden}/wanted`;
  const rename = (name: string) => (name === hidden ? wanted : name);
  const slice = [
    int64Constant(END, [LAST]),
    int64Constant(AXIS, [TOKEN_AXIS]),
    standardNode("Slice", [hidden, LOGITS_START, END, AXIS], wanted),
  ];
  const changed = nodes.map((node) =>
    head.has(node) ? { ...node, inputs: node.inputs.map(rename) } : node,
  );
  const after = nodes.findIndex(({ outputs }) => outputs.includes(hidden)) + 1;
  return [...changed.slice(0, after), ...slice, ...changed.slice(after)];
}

/** The input of the last product with weights, and the nodes from there to the logits. */
function lastProduct(
  nodes: readonly GraphNode[],
  inputs: ReadonlySet<string>,
  logits: string,
): { hidden: string; head: ReadonlySet<GraphNode> } | null {
  const computed = new Set(inputs);
  for (const node of nodes) {
    if (node.inputs.some((name) => computed.has(name)))
      for (const name of node.outputs) computed.add(name);
  }
  const head = new Set<GraphNode>();
  /** Values of which the logits are computed, without weights. */
  const needed = new Set([logits]);
  let hasProduct = false;
  for (const node of nodes.toReversed()) {
    if (!node.outputs.some((name) => needed.has(name))) continue;
    const operands = node.inputs.filter((name) => computed.has(name));
    const isProduct = PRODUCT.test(node.op);
    // With one operand of another kind the rows would be mixed: attention, or a reshaped activation.
    if (!isProduct && !ROW_WISE.test(node.op)) return null;
    head.add(node);
    hasProduct ||= isProduct;
    for (const name of node.outputs) needed.delete(name);
    for (const name of operands) needed.add(name);
    const [hidden] = needed;
    if (hasProduct && needed.size === 1 && !inputs.has(hidden!)) return { hidden: hidden!, head };
  }
  return null;
}
