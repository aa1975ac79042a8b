/**
 * Gives an input `position_ids` to a graph that has none. Such a graph takes the number of entries in its cache as the position of
 * the first new token (Gemma, GPT-OSS, Nemotron), for all rows alike: Range(past, past + new), Unsqueeze, then the angles of rotary
 * embeddings or the index into learned ones. In a prepared graph the cache has unused entries, and each row has its own position.
 */
import { producersByValue, type GraphNode, type Producers } from "./nodes.ts";

export const POSITION_IDS = "position_ids";

/** Operators between the row of positions and the angles or the index, which keep its axes. */
const PASSES =
  /^(Cast|Identity|Unsqueeze|Squeeze|Reshape|Expand|Add|Sub|Mul|MatMul|Einsum|Transpose|Concat)$/;
/** Operators that keep a vector of positions: transformers adds the length of the cache to a range from 0. */
const ARITHMETIC = /^(Cast|Identity|Add)$/;
const COMPARISON = /^(Greater|Less)(OrEqual)?$|^Equal$/;

/** The nodes with `position_ids` in place of the computed positions; null if there are none to replace. */
export function usePositionInput(nodes: readonly GraphNode[]): GraphNode[] | null {
  const producers = producersByValue(nodes);
  const users = usersByValue(nodes);
  const positions = new Set(
    nodes.filter((node) => isRowOfPositions(node, producers)).flatMap(({ outputs }) => outputs),
  );
  /** The angles of rotary embeddings, or the index into learned ones. Masks are gathered too, but computed before. */
  const isPositional = ({ node: { op, inputs }, input }: Use) =>
    /^(Cos|Sin)$/.test(op) || (op === "Gather" && input === 1 && !producers.has(inputs[0]!));
  const replaced = new Set([...positions].filter((name) => leadsTo(name, users, isPositional)));
  if (replaced.size === 0) return null;
  return nodes.map((node) => {
    // The mask compares the entries of the cache.
    const isMask = COMPARISON.test(node.op) || leadsTo(node.outputs[0]!, users, isComparison);
    if (isMask) return node;
    const rename = (name: string) => (replaced.has(name) ? POSITION_IDS : name);
    return { ...node, inputs: node.inputs.map(rename) };
  });
}

/** Whether a node makes [1, tokens] of a vector of positions. */
function isRowOfPositions({ op, inputs }: GraphNode, producers: Producers): boolean {
  return /^(Unsqueeze|Reshape)$/.test(op) && isRange(inputs[0]!, producers);
}

function isRange(name: string, producers: Producers): boolean {
  const node = producers.get(name);
  if (!node) return false;
  if (node.op === "Range") return true;
  return ARITHMETIC.test(node.op) && node.inputs.some((input) => isRange(input, producers));
}

interface Use {
  readonly node: GraphNode;
  /** Position of the value among the node's inputs. */
  readonly input: number;
}

type Users = ReadonlyMap<string, readonly Use[]>;

function usersByValue(nodes: readonly GraphNode[]): Users {
  const users = new Map<string, Use[]>();
  for (const node of nodes) {
    for (const [input, name] of node.inputs.entries()) {
      const known = users.get(name);
      if (known) known.push({ node, input });
      else users.set(name, [{ node, input }]);
    }
  }
  return users;
}

/** Whether a value is used so, itself or after operators that pass it on. */
function leadsTo(name: string, users: Users, isUsed: (use: Use) => boolean): boolean {
  const seen = new Set<string>();
  const waiting = [name];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    if (seen.has(next)) continue;
    seen.add(next);
    for (const use of users.get(next) ?? []) {
      if (isUsed(use)) return true;
      if (PASSES.test(use.node.op)) waiting.push(...use.node.outputs);
    }
  }
  return false;
}

const isComparison = ({ node }: Use) => COMPARISON.test(node.op);
