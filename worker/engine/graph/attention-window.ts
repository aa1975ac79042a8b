/**
 * Finds attention that reaches back only so far, from the comparisons that make a graph's mask: whether a distance is below a
 * number (sliding window), or whether two positions are in the same chunk. It does not matter how config.json calls it. Such a graph
 * counts cache entries, so that no unused ones may be between the tokens of a sequence.
 */
import type { GraphFacts } from "./inspect.ts";
import { producersByValue, type GraphNode, type Producers } from "./nodes.ts";
import { Scalars } from "./scalars.ts";

const COMPARISON = /^(Greater|Less)(OrEqual)?$|^Equal$/;
/** Operators between a comparison and the positions that it compares. */
const ARITHMETIC = /^(Add|Sub|Mul|Div|Mod)$/;
const SHAPING = /^(Cast|Identity|Unsqueeze|Squeeze|Reshape|Expand|Floor|Neg|Transpose)$/;
/** Smaller numbers are part of the arithmetic of a causal mask. */
const WINDOW_MIN = 2;
/** Larger numbers stand for infinity. */
const WINDOW_MAX = 2 ** 30;

/** The longest reach of an attention window or chunk in tokens; null if none is found. */
export function attentionWindow({
  nodes,
  weights,
}: Pick<GraphFacts, "nodes" | "weights">): number | null {
  const producers = producersByValue(nodes);
  const scalars = new Scalars(weights, producers);
  const reaches = nodes
    .filter(({ op }) => COMPARISON.test(op))
    .flatMap((node) => reachesOf(node, producers, scalars));
  return reaches.length === 0 ? null : Math.max(...reaches);
}

/** The numbers that a comparison of two positions adds to or divides them by, or that it compares their distance with. */
function reachesOf({ inputs }: GraphNode, producers: Producers, scalars: Scalars): number[] {
  const fixed = inputs.map((input) => scalars.of(input));
  if (inputs.some((input, i) => fixed[i] === null && scalars.isFixed(input))) return [];
  const number = fixed.find((value) => value !== null);
  const moving = inputs.filter((_, i) => fixed[i] === null);
  if (number !== undefined) {
    return moving.some((input) => isDistance(input, producers, scalars)) ? reach(number) : [];
  }
  return moving.flatMap((input) => operands(input, producers, scalars));
}

/** Whether a value is the difference of two values that both depend on the inputs. */
function isDistance(name: string, producers: Producers, scalars: Scalars): boolean {
  const node = producers.get(name);
  if (!node) return false;
  if (SHAPING.test(node.op)) return isDistance(node.inputs[0]!, producers, scalars);
  return node.op === "Sub" && node.inputs.every((input) => !scalars.isFixed(input));
}

/** The numbers in the arithmetic that leads to a value. */
function operands(name: string, producers: Producers, scalars: Scalars): number[] {
  const node = producers.get(name);
  if (!node) return [];
  if (SHAPING.test(node.op)) return operands(node.inputs[0]!, producers, scalars);
  if (!ARITHMETIC.test(node.op)) return [];
  return node.inputs.flatMap((input) => {
    const number = scalars.of(input);
    return number === null ? operands(input, producers, scalars) : reach(number);
  });
}

function reach(number: number): number[] {
  const size = Math.abs(number);
  return size >= WINDOW_MIN && size < WINDOW_MAX ? [size] : [];
}
