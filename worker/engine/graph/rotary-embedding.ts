/**
 * Replaces rotary position embeddings by onnxruntime's operator RotaryEmbedding. Exporters write
 * `x * cos + concat(-x[half:], x[:half]) * sin`: seven nodes for the queries and seven for the keys of each layer.
 */
import {
  int64Constant,
  integerAttribute,
  producersByValue,
  standardNode,
  type GraphNode,
  type Producers,
} from "./nodes.ts";
import { MICROSOFT_DOMAIN } from "./onnx-proto.ts";

/** Flatten joins the axes before this one: [batch, tokens, half] becomes [batch * tokens, half]. */
const FLATTEN_AXIS = integerAttribute("axis", 2);

/**
 * The operator takes position ids, a table of cosines and a table of sines
 * (https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.RotaryEmbedding). The exported
 * graph has cosines and sines for each token of the run. These become the tables, so the position id of a token is the
 * index of its row: 0, 1, 2, ... in the shape of input_ids.
 */
export function fuseRotaryEmbedding(nodes: readonly GraphNode[]): GraphNode[] {
  const producers = producersByValue(nodes);
  const tables = new Set<string>();
  const positionIds = "rotary/positions";
  return nodes.flatMap((node) => {
    const rotary = matchRotary(node, producers);
    if (!rotary) return [node];
    const added: GraphNode[] = [];
    const value = (name: string) => `rotary/${name}`;
    if (tables.size === 0) {
      added.push(
        int64Constant(value("zero"), [0n]),
        int64Constant(value("one"), [1n]),
        int64Constant(value("last"), [-1n]),
        standardNode("Shape", ["input_ids"], value("shape")),
        standardNode("Size", ["input_ids"], value("size")),
        standardNode("Range", [value("zero"), value("size"), value("one")], value("range")),
        standardNode("Reshape", [value("range"), value("shape")], positionIds),
      );
    }
    for (const table of [rotary.cos, rotary.sin]) {
      if (tables.has(table)) continue;
      tables.add(table);
      const half = value(`${table}/half`);
      added.push(
        standardNode("Slice", [table, value("zero"), rotary.half, value("last")], half),
        standardNode("Flatten", [half], value(table), [FLATTEN_AXIS]),
      );
    }
    const inputs = [rotary.x, positionIds, value(rotary.cos), value(rotary.sin)];
    return [
      ...added,
      {
        op: "RotaryEmbedding",
        domain: MICROSOFT_DOMAIN,
        inputs,
        outputs: node.outputs,
        attributes: [],
      },
    ];
  });
}

/** Names of the values in one rotary embedding. */
interface Rotary {
  /** The queries or keys, and the cosines and sines, each [batch, tokens, head size]. */
  readonly x: string;
  readonly cos: string;
  readonly sin: string;
  /** Half of the head size. */
  readonly half: string;
}

/** The rotary embedding whose last node this is, or null. */
function matchRotary({ op, inputs }: GraphNode, producers: Producers): Rotary | null {
  if (op !== "Add") return null;
  for (const [first, second] of [inputs, inputs.toReversed()]) {
    const [x, cos] = matchTableProduct(first!, producers) ?? [];
    const [rotated, sin] = matchTableProduct(second!, producers) ?? [];
    const half = x && rotated && matchRotatedHalf(x, rotated, producers);
    if (half) return { x, half, cos: cos!, sin: sin! };
  }
  return null;
}

/** If `rotated` is `concat(-x[half:], x[:half])`, the name of `half`; otherwise null. */
function matchRotatedHalf(x: string, rotated: string, producers: Producers): string | null {
  const concat = producers.get(rotated);
  if (concat?.op !== "Concat") return null;
  const [negated, first] = concat.inputs.map((name) => producers.get(name));
  const second = negated?.op === "Neg" ? producers.get(negated.inputs[0]!) : undefined;
  const isSlice = (node?: GraphNode) => node?.op === "Slice" && node.inputs[0] === x;
  return isSlice(first) && isSlice(second) ? first!.inputs[2]! : null;
}

/** If a value is a product with a table that all heads share (an Unsqueeze), its two factors; otherwise null. */
function matchTableProduct(name: string, producers: Producers): [x: string, table: string] | null {
  const product = producers.get(name);
  if (product?.op !== "Mul") return null;
  for (const [x, factor] of [product.inputs, product.inputs.toReversed()]) {
    const unsqueeze = producers.get(factor!);
    if (unsqueeze?.op !== "Unsqueeze") continue;
    const table = unsqueeze.inputs[0]!;
    if (producers.get(table)?.op !== "Transpose") return [x!, table];
  }
  return null;
}
