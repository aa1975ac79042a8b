/**
 * Removes nodes from a graph without changing its results. An exported graph computes values at every run that depend only
 * on the sizes of its inputs: shapes for Reshape, bounds for Slice, the mask of each layer. With one token a run this takes
 * much of the time: of the 515 nodes that onnxruntime runs for 10M parameters, only 56 multiply by weights. Here such
 * integers are measured in a few runs of different sizes (shape-values.ts) and replaced by constants, equal computations are
 * merged, and rotary position embeddings become one operator. A proxy-tuned token (98M base, 10M experts) takes 13.9 ms
 * instead of 18.4, in int8 6.9 instead of 10.1 (128 tokens, two cores). When a graph is prepared, its logits are compared
 * with the original's (probe.ts).
 */
import { int64Constant, producersByValue, withoutUnusedNodes, type GraphNode } from "./nodes.ts";
import { fuseRotaryEmbedding } from "./rotary-embedding.ts";

/** Sizes of a run's inputs. */
export interface RunSizes {
  /** Sequences. */
  readonly batch: number;
  /** New tokens of each sequence. */
  readonly tokens: number;
  /** Tokens in the cache. */
  readonly past: number;
}

/** Sizes of the runs that measure. All sizes, and their sums and products, differ, so each value has one explanation. */
export const MEASURED_SIZES: readonly RunSizes[] = [
  { batch: 2, tokens: 3, past: 7 },
  { batch: 3, tokens: 5, past: 11 },
  { batch: 1, tokens: 4, past: 13 },
];

/** Name of a vector of integers -> its entries in each run of `PROBE_SIZES`. */
export type ShapeValues = ReadonlyMap<string, readonly (readonly bigint[])[]>;

/** Operator -> positions of its inputs that are shapes, bounds or axes, not data. */
const SHAPE_INPUTS: Readonly<Record<string, readonly number[]>> = {
  Reshape: [1],
  Expand: [1],
  Slice: [1, 2, 3, 4],
};
const SUBGRAPH_OPERATORS = new Set(["If", "Loop", "Scan"]);
/** Operators whose output size depends on the data in their inputs. */
const SIZE_BY_DATA = /^(NonZero|Compress|Unique|NonMaxSuppression)$/;
/** Operators whose result may be another expression of larger sizes. */
const UNSTEADY_OPERATORS = /^(Min|Max|Clip|Relu|Abs|(Greater|Less)(OrEqual)?)$/;
/** Operators whose output size depends on the values of the inputs after the first one, or of all. */
const SIZE_BY_VALUES =
  /^(Reshape|Expand|Slice|Tile|Pad|Resize|Upsample|TopK|OneHot|Split|Squeeze|Unsqueeze|CenterCropPad|Col2Im|MaxUnpool|Reduce.*)$/;
const SIZE_BY_ALL_VALUES = /^(Range|ConstantOfShape)$/;

/**
 * Names of the values to measure: shape inputs that the graph computes only from the sizes of its inputs.
 * @param inputs of the graph
 * @returns none if the graph has subgraphs, which may use any value without listing it as an input
 */
export function shapeValueNames(
  nodes: readonly GraphNode[],
  inputs: ReadonlySet<string>,
): string[] {
  if (nodes.some(({ op }) => SUBGRAPH_OPERATORS.has(op))) return [];
  const constants = new Set<string>();
  /** Values that depend on the data in the inputs. */
  const data = new Set(inputs);
  const unsteady = unsteadyValues(nodes);
  for (const node of nodes) {
    const isData = !READS_SIZE.test(node.op) && node.inputs.some((name) => data.has(name));
    for (const output of node.outputs) {
      if (node.op === "Constant") constants.add(output);
      if (isData) data.add(output);
    }
  }
  const computed = new Set(nodes.flatMap(({ outputs }) => outputs));
  const shapeInputs = nodes.flatMap(({ op, inputs }) =>
    (SHAPE_INPUTS[op] ?? []).map((position) => inputs[position] ?? ""),
  );
  return [...new Set(shapeInputs)].filter(
    (name) => computed.has(name) && !constants.has(name) && !data.has(name) && !unsteady.has(name),
  );
}

const READS_SIZE = /^(Shape|Size)$/;

/** Names of the values that come from an unsteady operator. A mask does, but not the sizes of what it is added to. */
function unsteadyValues(nodes: readonly GraphNode[]): ReadonlySet<string> {
  const values = new Set<string>();
  /** Values whose size comes from an unsteady operator. */
  const sizes = new Set<string>();
  for (const { op, inputs, outputs } of nodes) {
    const dependsOn = (found: ReadonlySet<string>, first = 0) =>
      inputs.some((name, i) => i >= first && found.has(name));
    const firstSizeOperand = SIZE_BY_ALL_VALUES.test(op)
      ? 0
      : SIZE_BY_VALUES.test(op)
        ? 1
        : Infinity;
    const hasUnsteadySize =
      SIZE_BY_DATA.test(op) || dependsOn(sizes) || dependsOn(values, firstSizeOperand);
    const isUnsteady = READS_SIZE.test(op)
      ? dependsOn(sizes)
      : UNSTEADY_OPERATORS.test(op) || SIZE_BY_DATA.test(op) || dependsOn(values);
    for (const output of outputs) {
      if (isUnsteady) values.add(output);
      if (hasUnsteadySize && !READS_SIZE.test(op)) sizes.add(output);
    }
  }
  return values;
}

/**
 * @param nodes of the graph, in topological order
 * @param outputs of the graph: they keep their names
 */
export function simplify(
  nodes: readonly GraphNode[],
  values: ShapeValues,
  outputs: ReadonlySet<string>,
): GraphNode[] {
  const isOutput = (node: GraphNode) => node.outputs.some((name) => outputs.has(name));
  let simplified = replaceShapeValues(nodes, values);
  simplified = mergeDuplicateNodes(simplified, isOutput);
  simplified = removeNanGuards(simplified);
  simplified = fuseRotaryEmbedding(simplified);
  return withoutUnusedNodes(simplified, isOutput);
}

/** Replaces values that were the same in all runs by constants, and merges values that were equal in each run. */
function replaceShapeValues(nodes: readonly GraphNode[], values: ShapeValues): GraphNode[] {
  const constants: GraphNode[] = [];
  /** Size expressions -> the first value that has them. */
  const known = new Map<string, string>();
  const addConstant = (entries: readonly bigint[]): string => {
    const name = `measured/${entries.join()}`;
    constants.push(int64Constant(name, entries));
    return name;
  };
  const replacement = (name: string): string => {
    const expressions = sizeExpressions(values.get(name));
    if (!expressions) return name;
    const key = expressions.join();
    const first = known.get(key) ?? (areConstant(expressions) ? addConstant(expressions) : name);
    known.set(key, first);
    return first;
  };
  const replaced = nodes.map((node) => {
    const positions = SHAPE_INPUTS[node.op];
    if (!positions) return node;
    const inputs = node.inputs.map((name, i) => (positions.includes(i) ? replacement(name) : name));
    return { ...node, inputs };
  });
  return [...constants, ...replaced];
}

/** A constant, or how an integer follows from the sizes of a run. */
type SizeExpression = bigint | "batch" | "tokens" | "past" | "past + tokens" | "batch * tokens";

/** An expression for each entry of a vector; null if some entry has none. */
function sizeExpressions(
  runs: readonly (readonly bigint[])[] | undefined,
): SizeExpression[] | null {
  const [first] = runs ?? [];
  if (!runs || !first || runs.some(({ length }) => length !== first.length)) return null;
  const expressions = first.map((value, entry): SizeExpression | null => {
    const equals = (expected: (sizes: RunSizes) => number) =>
      runs.every((run, i) => run[entry] === BigInt(expected(MEASURED_SIZES[i]!)));
    if (runs.every((run) => run[entry] === value)) return value;
    if (equals(({ batch }) => batch)) return "batch";
    if (equals(({ tokens }) => tokens)) return "tokens";
    if (equals(({ past }) => past)) return "past";
    if (equals(({ past, tokens }) => past + tokens)) return "past + tokens";
    return equals(({ batch, tokens }) => batch * tokens) ? "batch * tokens" : null;
  });
  return expressions.includes(null) ? null : (expressions as SizeExpression[]);
}

function areConstant(expressions: readonly SizeExpression[]): expressions is bigint[] {
  return expressions.every((expression) => typeof expression === "bigint");
}

/** Merges nodes with the same operator, inputs and attributes. */
function mergeDuplicateNodes(
  nodes: readonly GraphNode[],
  isOutput: (node: GraphNode) => boolean,
): GraphNode[] {
  const known = new Map<string, GraphNode>();
  const names = new Map<string, string>();
  const kept: GraphNode[] = [];
  for (const node of nodes) {
    const inputs = node.inputs.map((name) => names.get(name) ?? name);
    const attributes = node.attributes.map((bytes) => Buffer.from(bytes).toString("base64"));
    const key = JSON.stringify([node.op, node.domain, inputs, attributes.sort()]);
    const duplicate = known.get(key);
    if (duplicate && !isOutput(node)) {
      for (const [i, name] of node.outputs.entries()) names.set(name, duplicate.outputs[i]!);
      continue;
    }
    known.set(key, node);
    kept.push({ ...node, inputs });
  }
  return kept;
}

/**
 * Bypasses `Where(IsNaN(weights), 0, weights)` after the softmax of attention. The weights of a token are NaN only if it
 * attends to no token at all, and every token attends to itself.
 */
function removeNanGuards(nodes: readonly GraphNode[]): GraphNode[] {
  const producers = producersByValue(nodes);
  const names = new Map<string, string>();
  for (const { op, inputs, outputs } of nodes) {
    const [condition, , value] = inputs;
    const test = producers.get(condition ?? "");
    if (op !== "Where" || test?.op !== "IsNaN" || test.inputs[0] !== value) continue;
    if (producers.get(value!)?.op === "Softmax") names.set(outputs[0]!, value!);
  }
  return nodes.map((node) => ({
    ...node,
    inputs: node.inputs.map((name) => names.get(name) ?? name),
  }));
}
