/**
 * Removes the Concat of the KV cache from a graph. An exported graph computes `present = Concat(past, new)` and multiplies
 * with it, which copies the whole cache at every token (7 of 38 ms at 1,024 tokens, 98M parameters, two cores; with eight
 * sequences at 128 tokens 9 of 36). The same products are computed from the two parts:
 *     queries x keys = Concat(queries x past keys, queries x new keys)
 *     weights x values = weights[past] x past values + weights[new] x new values
 * The nodes between cache and product (transposing, scaling, repeating heads) are applied to each part separately.
 */
import {
  int64Constant,
  integerAttribute,
  producersByValue,
  standardNode,
  withoutUnusedNodes,
  type GraphNode,
  type Producers,
} from "./nodes.ts";

/** Names of the values with which a graph updates one cache. */
export interface CacheUpdate {
  /** The `past_key_values.*` input. */
  readonly past: string;
  /** Keys or values of the new tokens. */
  readonly newRows: string;
  /** Past and new keys or values together. */
  readonly present: string;
}

/** Axis of the tokens in a cache. */
const TOKEN_AXIS = 2;
/** Slice bound beyond every size. */
const SLICE_END = 2n ** 62n;
/** With more nodes than this between cache and product, the graph has an attention that is not supported. */
const PATH_NODES_MAX = 40;

/**
 * @param nodes of the graph, in topological order
 * @returns the nodes of the split graph, or null if some cache is used in an unknown way
 */
export function splitAttention(
  nodes: readonly GraphNode[],
  updates: readonly CacheUpdate[],
): GraphNode[] | null {
  let split: GraphNode[] | null = [...nodes];
  for (const update of updates) {
    split = splitCache(split, update);
    if (!split) return null;
  }
  return split;
}

function splitCache(nodes: readonly GraphNode[], update: CacheUpdate): GraphNode[] | null {
  const { present } = update;
  const dependent = dependentValues(nodes, present);
  const product = nodes.find(
    ({ op, inputs }) => op === "MatMul" && inputs[1] !== undefined && dependent.has(inputs[1]),
  );
  if (!product) return null;
  const [left, right] = product.inputs as [string, string];
  const path = nodesBetween(right, producersByValue(nodes), dependent);
  if (path.size > PATH_NODES_MAX) return null;
  const past = copyPath(path, present, { name: update.past, suffix: `/past/${present}` });
  const added = copyPath(path, present, { name: update.newRows, suffix: `/new/${present}` });
  const products = isTransposed(path)
    ? keyProducts(product, left, past.rename(right), added.rename(right))
    : valueProducts(product, update, {
        left,
        past: past.rename(right),
        added: added.rename(right),
      });
  const rewritten = nodes.flatMap((node) => {
    if (node.outputs.includes(present)) return [];
    if (node === product) return products;
    const copies = path.has(node) ? [past.copy(node), added.copy(node)] : [];
    return [...copies, ...withCombinedShape(node, past, added)];
  });
  const original = new Set(nodes);
  const split = withoutUnusedNodes(rewritten, (node) => original.has(node) && !path.has(node));
  return split.every(({ inputs }) => !inputs.includes(present)) ? split : null;
}

/** A copy of the nodes between a cache and its product, for one part of the cache. */
interface PathCopy {
  /** Name that a value has in this copy; values outside of the path keep their names. */
  readonly rename: (name: string) => string;
  readonly copy: (node: GraphNode) => GraphNode;
}

function copyPath(
  path: ReadonlySet<GraphNode>,
  present: string,
  part: { readonly name: string; readonly suffix: string },
): PathCopy {
  const copied = new Set([...path].flatMap(({ outputs }) => outputs));
  const rename = (name: string) =>
    name === present ? part.name : copied.has(name) ? name + part.suffix : name;
  const copy = (node: GraphNode) => ({
    ...node,
    inputs: node.inputs.map(rename),
    outputs: node.outputs.map(rename),
  });
  return { rename, copy };
}

/** The value `from` and all values that are computed from it, up to the next product. */
function dependentValues(nodes: readonly GraphNode[], from: string): Set<string> {
  const found = new Set([from]);
  for (const { op, inputs, outputs } of nodes) {
    // The output of a product is the result of attention, no longer the cache.
    if (op === "MatMul" || !inputs.some((name) => found.has(name))) continue;
    for (const output of outputs) found.add(output);
  }
  return found;
}

/** The nodes that compute a value from dependent values. */
function nodesBetween(
  name: string,
  producers: Producers,
  dependent: ReadonlySet<string>,
): Set<GraphNode> {
  const found = new Set<GraphNode>();
  const visit = (value: string) => {
    const node = dependent.has(value) ? producers.get(value) : undefined;
    if (!node || found.has(node) || !node.inputs.some((input) => dependent.has(input))) return;
    found.add(node);
    for (const input of node.inputs) visit(input);
  };
  visit(name);
  return found;
}

/** Whether the path transposes the cache: attention transposes the keys and not the values. */
function isTransposed(path: ReadonlySet<GraphNode>): boolean {
  return [...path].filter(({ op }) => op === "Transpose").length % 2 === 1;
}

function keyProducts(product: GraphNode, left: string, past: string, added: string): GraphNode[] {
  const [output] = product.outputs as [string];
  return [
    { ...product, inputs: [left, past], outputs: [`${output}/past`] },
    { ...product, inputs: [left, added], outputs: [`${output}/new`] },
    standardNode("Concat", [`${output}/past`, `${output}/new`], output, [
      integerAttribute("axis", -1),
    ]),
  ];
}

function valueProducts(
  product: GraphNode,
  { past, present }: CacheUpdate,
  factors: Readonly<Record<"left" | "past" | "added", string>>,
): GraphNode[] {
  const [output] = product.outputs as [string];
  const { left } = factors;
  const value = (name: string) => `${present}/${name}`;
  return [
    int64Constant(value("zero"), [0n]),
    int64Constant(value("end"), [SLICE_END]),
    int64Constant(value("last"), [-1n]),
    int64Constant(value("axis"), [BigInt(TOKEN_AXIS)]),
    standardNode("Shape", [past], value("past shape")),
    standardNode("Gather", [value("past shape"), value("axis")], value("past length")),
    standardNode(
      "Slice",
      [left, value("zero"), value("past length"), value("last")],
      `${output}/past weights`,
    ),
    standardNode(
      "Slice",
      [left, value("past length"), value("end"), value("last")],
      `${output}/new weights`,
    ),
    { ...product, inputs: [`${output}/past weights`, factors.past], outputs: [`${output}/past`] },
    { ...product, inputs: [`${output}/new weights`, factors.added], outputs: [`${output}/new`] },
    standardNode("Add", [`${output}/past`, `${output}/new`], output),
  ];
}

/**
 * Replaces a Shape node over a value that is now split: it must give the shape of both parts together, because masks are cut
 * to that length.
 * Other nodes are returned unchanged.
 */
function withCombinedShape(node: GraphNode, past: PathCopy, added: PathCopy): GraphNode[] {
  const [input] = node.inputs;
  const isSplit = node.op === "Shape" && input !== undefined && past.rename(input) !== input;
  if (!isSplit || node.attributes.length > 0) return [node];
  const [output] = node.outputs as [string];
  const value = (name: string) => `${output}/${name}`;
  return [
    int64Constant(value("axis"), [0n, 0n, 1n, 0n]),
    { ...node, inputs: [past.rename(input)], outputs: [value("past")] },
    { ...node, inputs: [added.rename(input)], outputs: [value("rows")] },
    standardNode("Mul", [value("rows"), value("axis")], value("more")),
    standardNode("Add", [value("past"), value("more")], output),
  ];
}
