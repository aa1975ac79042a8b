/**
 * Rotary positions as one operator. Exporters write `x * cos + concat(-x[half:], x[:half]) * sin`, seven nodes for the
 * queries and seven for the keys of each layer.
 */
import {
  integerAttribute,
  integersNode,
  MICROSOFT,
  producers,
  standardNode,
  type GraphNode,
  type Producers,
} from "./onnx-wire.ts";

/** Axes before this are the rows of a table: one for each token of the run. */
const TOKENS_ARE_ROWS = integerAttribute("axis", 2);

/**
 * The operator takes positions and tables of cosines and sines
 * (https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.RotaryEmbedding): here a
 * table has a row for each token of the run, and a token's position is its row.
 */
export function withRotaryEmbedding(nodes: readonly GraphNode[]): GraphNode[] {
  const producer = producers(nodes);
  const made = new Set<string>();
  const positions = "rotary/positions";
  return nodes.flatMap((node) => {
    const rotary = rotaryOf(node, producer);
    if (!rotary) return [node];
    const tables: GraphNode[] = [];
    const own = (name: string) => `rotary/${name}`;
    if (made.size === 0) {
      tables.push(
        integersNode(own("zero"), [0n]),
        integersNode(own("one"), [1n]),
        integersNode(own("last"), [-1n]),
        standardNode("Shape", ["input_ids"], own("shape")),
        standardNode("Size", ["input_ids"], own("size")),
        standardNode("Range", [own("zero"), own("size"), own("one")], own("range")),
        standardNode("Reshape", [own("range"), own("shape")], positions),
      );
    }
    for (const table of [rotary.cos, rotary.sin]) {
      if (made.has(table)) continue;
      made.add(table);
      tables.push(
        standardNode("Slice", [table, own("zero"), rotary.half, own("last")], own(`${table}/half`)),
        standardNode("Flatten", [own(`${table}/half`)], own(table), [TOKENS_ARE_ROWS]),
      );
    }
    const inputs = [rotary.of, positions, own(rotary.cos), own(rotary.sin)];
    return [
      ...tables,
      { op: "RotaryEmbedding", domain: MICROSOFT, inputs, outputs: node.outputs, attributes: [] },
    ];
  });
}

interface Rotary {
  /** What is rotated, and the cosines and sines, [batch, tokens, size], that it is rotated by. */
  readonly of: string;
  readonly cos: string;
  readonly sin: string;
  /** Half the size. */
  readonly half: string;
}

function rotaryOf({ op, inputs }: GraphNode, producer: Producers): Rotary | null {
  if (op !== "Add") return null;
  for (const [straight, turned] of [inputs, inputs.toReversed()]) {
    const [of, cos] = timesTable(straight!, producer) ?? [];
    const [swapped, sin] = timesTable(turned!, producer) ?? [];
    const half = of && swapped && halfSwapped(of, swapped, producer);
    if (half) return { of, half, cos: cos!, sin: sin! };
  }
  return null;
}

/** Where `swapped` cuts if it is `concat(-of[half:], of[:half])`, or null. */
function halfSwapped(of: string, swapped: string, producer: Producers): string | null {
  const concat = producer.get(swapped);
  if (concat?.op !== "Concat") return null;
  const [minus, first] = concat.inputs.map((name) => producer.get(name));
  const second = minus?.op === "Neg" ? producer.get(minus.inputs[0]!) : undefined;
  const isCut = (node?: GraphNode) => node?.op === "Slice" && node.inputs[0] === of;
  return isCut(first) && isCut(second) ? first!.inputs[2]! : null;
}

/** The factors of a product with a table that all heads share. */
function timesTable(name: string, producer: Producers): [of: string, table: string] | null {
  const product = producer.get(name);
  if (product?.op !== "Mul") return null;
  for (const [of, table] of [product.inputs, product.inputs.toReversed()]) {
    const shared = producer.get(table!);
    if (shared?.op === "Unsqueeze" && producer.get(shared.inputs[0]!)?.op !== "Transpose") {
      return [of!, shared.inputs[0]!];
    }
  }
  return null;
}
