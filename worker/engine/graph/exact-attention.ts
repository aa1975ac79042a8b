/**
 * Makes attention independent of the order of its additions. Sums of float32 depend on their order in the last digits, and a
 * token's attention adds in another order when it is decoded, drafted or part of a prompt's chunk. Where activations are rounded to
 * 8 bits, such a digit sometimes decides between two levels, and later tokens see the difference in the cache: 1 of 20 jobs of
 * the demo models got another text. Without rounding it stays a digit (fp32), so only quantized graphs are changed.
 *
 * The addends are rounded to multiples of a power of two that are small enough for their sum to have no rounding at all:
 *     weights = high + low             exp(score - largest), multiples of 2^-8 and of 2^-16
 *     values                           multiples of 1/1024 of the largest magnitude that is expected, rounded up to a power of two
 *     output = (sum of high * values + sum of low * values) / (sum of high + sum of low)
 * A sum of float32 is exact, in any order, while the magnitudes of its addends have at most 2^24 multiples together. A high weight has
 * at most 2^8, a low one 2^7, a value 2^10. So sums are exact
 *     of high * values     while the sum of weight * |value| is at most 64 (2^24 / 2^18), with the largest weight and value as 1
 *     of low * values      for 128 tokens of any values, and as many more as their values and low parts are smaller
 *     of the weights       for 65,536 tokens
 * 64 tokens are exact with any weights, if no value is larger than expected. More are if attention prefers some of them or if values are
 * small: 600 tokens of the same weight with values of a tenth. Beyond the bound a sum may be rounded, as all were before; values of
 * both signs reach it later, because only a partial sum above 2^24 multiples is rounded. Products of queries and keys need no change: each has one order, that of the
 * head's dimensions.
 */
import {
  floatConstant,
  integerAttribute,
  reduceLast,
  splitRows,
  standardNode,
  type GraphNode,
} from "./nodes.ts";

/** Adding and subtracting this rounds a smaller number to a multiple of 1. */
const ROUNDING = 1.5 * 2 ** 23;
const HIGH_STEP = 2 ** -8;
const LOW_STEP = 2 ** -16;
const VALUE_STEPS = 2 ** 10;
const [HIGH, LOW] = ["exact/high", "exact/low"] as const;

/** The nodes from the weights of a split attention (split-attention.ts) to its output. */
interface WeightedSum {
  /** The weights of old and new tokens. */
  readonly slices: readonly GraphNode[];
  /** Of the slices with the values. */
  readonly products: readonly GraphNode[];
  /** Adds the products. */
  readonly sum: GraphNode;
}

/**
 * @param nodes of a split graph, in topological order
 * @param values name of an output with the values of new tokens -> the largest magnitude that is expected
 * @param opset version of the standard operators
 * @returns null if the graph has another form
 */
export function exactAttention(
  nodes: readonly GraphNode[],
  values: ReadonlyMap<string, number>,
  opset: number,
): GraphNode[] | null {
  const replacements = new Map<GraphNode, readonly GraphNode[]>();
  const softmaxes = nodes.filter(({ op }) => op === "Softmax");
  for (const softmax of softmaxes) {
    const found = weightedSum(softmax, nodes);
    if (!found) return null;
    replacements.set(softmax, weightNodes(softmax, opset));
    for (const slice of found.slices) replacements.set(slice, partNodes(slice, opset));
    for (const product of found.products) replacements.set(product, [partProduct(product)]);
    replacements.set(found.sum, sumNodes(found, opset));
  }
  const rounded = new Set<string>();
  for (const node of nodes) {
    const name = node.outputs.find((output) => values.has(output));
    if (name === undefined) continue;
    if (replacements.has(node)) return null;
    replacements.set(node, roundValues(node, name, values.get(name)!));
    rounded.add(name);
  }
  if (softmaxes.length === 0 || rounded.size < values.size) return null;
  return [
    floatConstant(HIGH, ROUNDING * HIGH_STEP),
    floatConstant(LOW, ROUNDING * LOW_STEP),
    ...nodes.flatMap((node) => replacements.get(node) ?? [node]),
  ];
}

function weightedSum(softmax: GraphNode, nodes: readonly GraphNode[]): WeightedSum | null {
  const usersOf = (values: readonly GraphNode[]) => {
    const names = new Set(values.map(({ outputs }) => outputs[0]!));
    return nodes.filter(({ inputs }) => inputs.some((name) => names.has(name)));
  };
  const readFirst = (values: readonly GraphNode[], users: readonly GraphNode[]) =>
    users.every(({ inputs }) => values.some(({ outputs }) => outputs[0] === inputs[0]));
  const slices = usersOf([softmax]);
  const products = usersOf(slices);
  const [sum, ...others] = usersOf(products);
  const isSplit =
    slices.length === 2 &&
    slices.every(({ op }) => op === "Slice") &&
    products.length === 2 &&
    products.every(({ op }) => op === "MatMul") &&
    readFirst([softmax], slices) &&
    readFirst(slices, products) &&
    sum?.op === "Add" &&
    others.length === 0 &&
    products.every(({ outputs }) => sum.inputs.includes(outputs[0]!));
  return isSplit ? { slices, products, sum } : null;
}

/** Rounds to multiples of a step. @param shift `ROUNDING` times the step */
const round = (input: string, shift: string, output: string): GraphNode[] => [
  standardNode("Add", [input, shift], `${output}/shifted`),
  standardNode("Sub", [`${output}/shifted`, shift], output),
];

/** Not the name of the softmax's output: if that is an output of the graph too, the graph must not load. */
const exponentialsOf = (weights: string) => `${weights}/exp`;

/** The weights before they are rounded: the largest is 1. */
function weightNodes({ inputs, outputs }: GraphNode, opset: number): GraphNode[] {
  const [scores] = inputs as [string];
  const [weights] = outputs as [string];
  const value = (part: string) => `${weights}/${part}`;
  return [
    ...reduceLast("ReduceMax", scores, value("largest"), opset),
    standardNode("Sub", [scores, value("largest")], value("exponents")),
    standardNode("Exp", [value("exponents")], exponentialsOf(weights)),
  ];
}

const partsOf = (weights: string) => `${weights}/parts`;
const totalsOf = (weights: string) => `${weights}/totals`;

/** High and low parts of some weights as rows of one matrix, so that a product reads the values once; and the sum of each row. */
function partNodes(slice: GraphNode, opset: number): GraphNode[] {
  const [weights] = slice.outputs as [string];
  const [all, ...bounds] = slice.inputs as [string, ...string[]];
  const value = (part: string) => `${weights}/${part}`;
  return [
    { ...slice, inputs: [exponentialsOf(all), ...bounds] },
    ...round(weights, HIGH, value("high")),
    standardNode("Sub", [weights, value("high")], value("rest")),
    ...round(value("rest"), LOW, value("low")),
    standardNode("Concat", [value("high"), value("low")], partsOf(weights), [
      integerAttribute("axis", -2),
    ]),
    ...reduceLast("ReduceSum", partsOf(weights), totalsOf(weights), opset),
  ];
}

function partProduct(product: GraphNode): GraphNode {
  const [weights, values] = product.inputs as [string, string];
  return {
    ...product,
    inputs: [partsOf(weights), values],
    outputs: product.outputs.map(partsOf),
  };
}

function sumNodes({ slices, products, sum }: WeightedSum, opset: number): GraphNode[] {
  const [output] = sum.outputs as [string];
  const value = (part: string) => `${output}/${part}`;
  /** Adds up the parts for old and new tokens, then the high and the low one. */
  const add = (parts: readonly string[], name: string) => [
    standardNode("Add", parts, value(`${name} parts`)),
    splitRows(value(`${name} parts`), [value(`high ${name}`), value(`low ${name}`)], opset),
    standardNode("Add", [value(`high ${name}`), value(`low ${name}`)], value(name)),
  ];
  return [
    ...add(
      products.map(({ outputs }) => partsOf(outputs[0]!)),
      "sum",
    ),
    ...add(
      slices.map(({ outputs }) => totalsOf(outputs[0]!)),
      "total",
    ),
    standardNode("Div", [value("sum"), value("total")], output),
  ];
}

function roundValues(node: GraphNode, name: string, largest: number): GraphNode[] {
  const step = 2 ** Math.ceil(Math.log2(largest || 1)) / VALUE_STEPS;
  const [unrounded, shift] = [`${name}/unrounded`, `${name}/shift`];
  const outputs = node.outputs.map((output) => (output === name ? unrounded : output));
  return [
    floatConstant(shift, ROUNDING * step),
    { ...node, outputs },
    ...round(unrounded, shift, name),
  ];
}
