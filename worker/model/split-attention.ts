/**
 * Takes the KV cache's Concat out of a graph. Such a graph makes `present = Concat(past, new)` and multiplies with it,
 * which copies the whole cache at every token (7 of 38 ms at 1,024 tokens, 98M parameters, two cores; with eight
 * sequences at 128 tokens 9 of 36). The same products come out of the two parts:
 *     queries x keys = Concat(queries x past keys, queries x new keys)
 *     weights x values = weights[past] x past values + weights[new] x new values
 * What lies between cache and product (transposing, scaling, repeating heads) is done to each part on its own.
 */
import {
  integerAttribute,
  integersNode,
  producers,
  standardNode,
  type GraphNode,
} from "./onnx-wire.ts";

/** One cache: its input, the rows that are new, and the Concat's output. */
export interface CacheConcat {
  readonly past: string;
  readonly rows: string;
  readonly present: string;
}

const TOKEN_AXIS = 2;
const END = 2n ** 62n;

/**
 * @param nodes of the graph, in order
 * @returns the nodes of the split graph, or null if some cache is used in a way that is not known here
 */
export function splitAttention(
  nodes: readonly GraphNode[],
  caches: readonly CacheConcat[],
): GraphNode[] | null {
  let split: GraphNode[] | null = [...nodes];
  for (const cache of caches) {
    split = splitCache(split, cache);
    if (!split) return null;
  }
  return split;
}

function splitCache(nodes: readonly GraphNode[], cache: CacheConcat): GraphNode[] | null {
  const { present } = cache;
  const producer = producers(nodes);
  const dependent = dependents(nodes, present);
  const product = nodes.find(
    ({ op, inputs }) => op === "MatMul" && inputs[1] !== undefined && dependent.has(inputs[1]),
  );
  if (!product) return null;
  const [left, right] = product.inputs as [string, string];
  const between = ancestors(right, producer, dependent);
  if (between.size > BETWEEN_MAX) return null;
  const past = branch(between, present, { name: cache.past, suffix: `/past/${present}` });
  const rows = branch(between, present, { name: cache.rows, suffix: `/new/${present}` });
  const products = isTransposed(between)
    ? keyProducts(product, left, past.of(right), rows.of(right))
    : valueProducts(product, cache, { left, past: past.of(right), rows: rows.of(right) });
  const made = nodes.flatMap((node) => {
    if (node.outputs.includes(present)) return [];
    if (node === product) return products;
    if (between.has(node))
      return [past.clone(node), rows.clone(node), ...wholeShape(node, past, rows)];
    return wholeShape(node, past, rows);
  });
  const before = new Set(nodes);
  const split = withoutUnused(made, (node) => between.has(node) || !before.has(node));
  return split.every(({ inputs }) => !inputs.includes(present)) ? split : null;
}

/** The nodes between a cache and its product, for one part of the cache. */
interface Branch {
  /** The part's name of a value. */
  readonly of: (name: string) => string;
  readonly clone: (node: GraphNode) => GraphNode;
}

function branch(
  between: ReadonlySet<GraphNode>,
  present: string,
  part: { readonly name: string; readonly suffix: string },
): Branch {
  const cloned = new Set([...between].flatMap(({ outputs }) => outputs));
  const of = (name: string) =>
    name === present ? part.name : cloned.has(name) ? name + part.suffix : name;
  const clone = (node: GraphNode) => ({
    ...node,
    inputs: node.inputs.map(of),
    outputs: node.outputs.map(of),
  });
  return { of, clone };
}

/** Longer ways from cache to product are not attention as it is known here. */
const BETWEEN_MAX = 40;

/** Every value that is computed from another. */
function dependents(nodes: readonly GraphNode[], from: string): Set<string> {
  const found = new Set([from]);
  for (const { op, inputs, outputs } of nodes) {
    // Behind a product it is attention's result and no longer the cache.
    if (op === "MatMul" || !inputs.some((name) => found.has(name))) continue;
    for (const output of outputs) found.add(output);
  }
  return found;
}

/** The nodes that make a value out of dependent ones. */
function ancestors(
  name: string,
  producer: ReadonlyMap<string, GraphNode>,
  dependent: ReadonlySet<string>,
): Set<GraphNode> {
  const found = new Set<GraphNode>();
  const visit = (of: string) => {
    const node = dependent.has(of) ? producer.get(of) : undefined;
    if (!node || found.has(node) || !node.inputs.some((input) => dependent.has(input))) return;
    found.add(node);
    for (const input of node.inputs) visit(input);
  };
  visit(name);
  return found;
}

/** Keys are multiplied transposed, values as they lie. */
function isTransposed(between: ReadonlySet<GraphNode>): boolean {
  return [...between].filter(({ op }) => op === "Transpose").length % 2 === 1;
}

function keyProducts(product: GraphNode, left: string, past: string, rows: string): GraphNode[] {
  const [output] = product.outputs as [string];
  return [
    { ...product, inputs: [left, past], outputs: [`${output}/past`] },
    { ...product, inputs: [left, rows], outputs: [`${output}/new`] },
    standardNode("Concat", [`${output}/past`, `${output}/new`], output, [
      integerAttribute("axis", -1),
    ]),
  ];
}

function valueProducts(
  product: GraphNode,
  { past, present }: CacheConcat,
  factors: Readonly<Record<"left" | "past" | "rows", string>>,
): GraphNode[] {
  const [output] = product.outputs as [string];
  const { left } = factors;
  const own = (name: string) => `${present}/${name}`;
  return [
    integersNode(own("zero"), [0n]),
    integersNode(own("end"), [END]),
    integersNode(own("last"), [-1n]),
    integersNode(own("axis"), [BigInt(TOKEN_AXIS)]),
    standardNode("Shape", [past], own("past shape")),
    standardNode("Gather", [own("past shape"), own("axis")], own("past length")),
    standardNode(
      "Slice",
      [left, own("zero"), own("past length"), own("last")],
      `${output}/past weights`,
    ),
    standardNode(
      "Slice",
      [left, own("past length"), own("end"), own("last")],
      `${output}/new weights`,
    ),
    { ...product, inputs: [`${output}/past weights`, factors.past], outputs: [`${output}/past`] },
    { ...product, inputs: [`${output}/new weights`, factors.rows], outputs: [`${output}/new`] },
    standardNode("Add", [`${output}/past`, `${output}/new`], output),
  ];
}

/** A node that asks for the shape of what is split now (masks are cut to its length) gets that of both parts. */
function wholeShape(node: GraphNode, past: Branch, rows: Branch): GraphNode[] {
  const [value] = node.inputs;
  const isAsked = node.op === "Shape" && value !== undefined && past.of(value) !== value;
  if (!isAsked || node.attributes.length > 0) return [node];
  const [output] = node.outputs as [string];
  const own = (name: string) => `${output}/${name}`;
  return [
    integersNode(own("axis"), [0n, 0n, 1n, 0n]),
    { ...node, inputs: [past.of(value)], outputs: [own("past")] },
    { ...node, inputs: [rows.of(value)], outputs: [own("rows")] },
    standardNode("Mul", [own("rows"), own("axis")], own("more")),
    standardNode("Add", [own("past"), own("more")], output),
  ];
}

/** Drops those of some nodes whose results nobody uses (any more). */
function withoutUnused(
  nodes: readonly GraphNode[],
  isCandidate: (node: GraphNode) => boolean,
): GraphNode[] {
  let kept = [...nodes];
  for (;;) {
    const used = new Set(kept.flatMap(({ inputs }) => inputs));
    const next = kept.filter(
      (node) => !isCandidate(node) || node.outputs.some((output) => used.has(output)),
    );
    if (next.length === kept.length) return kept;
    kept = next;
  }
}
