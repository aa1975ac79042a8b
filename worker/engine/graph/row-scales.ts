/**
 * Gives each row of quantized activations a scale of its own. `DynamicQuantizeLinear` computes one scale over all rows of a run, so
 * the other tokens and sequences of the run change a row's logits (by up to 6% of their range in the demo models). Here a row's
 * scale is its largest magnitude, its levels are 1/127 of that, and the zero point is always 128. The sums of the integer products
 * are exact, so a row's result depends on that row only, and its inputs are rounded less than with a common scale. The factor
 * 1/127 is part of the weights' scale: onnxruntime computes that when it loads the graph, not at each token (unless the graph lists its
 * weights as inputs).
 *
 * The nodes after a product are merged into `MatMulIntegerToFloat`, which takes a scale for each row. onnxruntime would do the same
 * when it loads the graph, and would then also merge a bias, which it multiplies by the row's scale.
 */
import {
  constantTensor,
  floatConstant,
  reduceLast,
  standardNode,
  type GraphNode,
} from "./nodes.ts";
import { DATA_TYPE, MICROSOFT_DOMAIN } from "./onnx-proto.ts";

/** Levels on each side of zero. */
const LEVELS = 127;
const ZERO_POINT = 128;
const [STEP, MIDDLE] = ["row scales/step", "row scales/middle"] as const;

/** The outputs of a DynamicQuantizeLinear. */
type Quantized = Readonly<Record<"values" | "scale" | "zeroPoint", string>>;
type Consumers = ReadonlyMap<string, readonly GraphNode[]>;

/** A product of quantized activations and weights, with the nodes that turn its integers into floats. */
interface QuantizedProduct {
  readonly product: GraphNode;
  readonly weightScale: string;
  /** The node with the result. */
  readonly scaled: GraphNode;
  /** Nodes that are merged into it. */
  readonly merged: readonly [product: GraphNode, cast: GraphNode, scales: GraphNode];
}

/**
 * @param nodes of the graph, in topological order
 * @param opset version of the standard operators
 * @returns the same nodes if there is nothing to replace
 */
export function scaleRows(nodes: readonly GraphNode[], opset: number): readonly GraphNode[] {
  const consumers = consumersByValue(nodes);
  const replacements = new Map<GraphNode, readonly GraphNode[]>();
  for (const node of nodes) {
    if (node.op !== "DynamicQuantizeLinear") continue;
    const [values, scale, zeroPoint] = node.outputs as [string, string, string];
    const quantized = { values, scale, zeroPoint };
    const products = (consumers.get(values) ?? []).map((product) =>
      quantizedProduct(product, quantized, consumers),
    );
    // Zero products: the quantized values are an output of the graph, or unused.
    if (products.length === 0 || products.includes(null)) continue;
    if (hasOtherReader(quantized, products as QuantizedProduct[], consumers)) continue;
    replacements.set(node, quantizeRows(node.inputs[0]!, quantized, opset));
    for (const { scaled, merged, ...product } of products as QuantizedProduct[]) {
      for (const each of merged) replacements.set(each, []);
      replacements.set(scaled, mergedProduct({ scaled, ...product }, quantized));
    }
  }
  if (replacements.size === 0) return nodes;
  return [
    floatConstant(STEP, 1 / LEVELS),
    constantTensor(MIDDLE, DATA_TYPE.uint8, [], Uint8Array.of(ZERO_POINT)),
    ...nodes.flatMap((node) => replacements.get(node) ?? [node]),
  ];
}

/** A row of zeros has scale 0 and any levels: its products are 0. */
function quantizeRows(input: string, { values, scale }: Quantized, opset: number): GraphNode[] {
  const value = (part: string) => `${values}/${part}`;
  return [
    standardNode("Abs", [input], value("magnitudes")),
    ...reduceLast("ReduceMax", value("magnitudes"), scale, opset),
    standardNode("Div", [input, scale], value("parts")),
    standardNode("QuantizeLinear", [value("parts"), STEP, MIDDLE], values),
  ];
}

function mergedProduct(
  { product, weightScale, scaled }: Omit<QuantizedProduct, "merged">,
  { values, scale }: Quantized,
): GraphNode[] {
  const [, weight, , weightZeroPoint] = product.inputs as [string, string, string, string?];
  const step = `${scaled.outputs[0]}/step`;
  const inputs = [values, weight, scale, step, MIDDLE];
  return [
    standardNode("Mul", [weightScale, STEP], step),
    {
      op: "MatMulIntegerToFloat",
      domain: MICROSOFT_DOMAIN,
      inputs: weightZeroPoint ? [...inputs, weightZeroPoint] : inputs,
      outputs: scaled.outputs,
      attributes: [],
    },
  ];
}

/** Reads `Mul(Cast(MatMulInteger(values, weight)), Mul(scale, weight scale))`; null for another form. */
function quantizedProduct(
  product: GraphNode,
  { values, scale, zeroPoint }: Quantized,
  consumers: Consumers,
): QuantizedProduct | null {
  const onlyConsumer = ({ outputs }: GraphNode) => {
    const [first, ...more] = consumers.get(outputs[0]!) ?? [];
    return more.length === 0 ? first : undefined;
  };
  const [left, , leftZeroPoint] = product.inputs;
  if (product.op !== "MatMulInteger" || left !== values || leftZeroPoint !== zeroPoint) return null;
  const cast = onlyConsumer(product);
  const scaled = cast?.op === "Cast" ? onlyConsumer(cast) : undefined;
  if (scaled?.op !== "Mul") return null;
  const factor = scaled.inputs.find((input) => input !== cast!.outputs[0]);
  const scales = (consumers.get(scale) ?? []).find(({ outputs }) => outputs[0] === factor);
  const weightScale = scales?.inputs.find((input) => input !== scale);
  if (scales?.op !== "Mul" || weightScale === undefined) return null;
  return { product, weightScale, scaled, merged: [product, cast!, scales] };
}

/** Whether a node that stays reads a scale or zero point: its meaning changes. */
function hasOtherReader(
  { scale, zeroPoint }: Quantized,
  products: readonly QuantizedProduct[],
  consumers: Consumers,
): boolean {
  const replaced = new Set(products.flatMap(({ merged, scaled }) => [...merged, scaled]));
  const changed = [scale, zeroPoint, ...products.map(({ merged }) => merged[2].outputs[0]!)];
  return changed.some((name) => consumers.get(name)?.some((node) => !replaced.has(node)));
}

function consumersByValue(nodes: readonly GraphNode[]): Consumers {
  const consumers = new Map<string, GraphNode[]>();
  for (const node of nodes) {
    for (const input of new Set(node.inputs)) {
      const known = consumers.get(input);
      if (known) known.push(node);
      else consumers.set(input, [node]);
    }
  }
  return consumers;
}
