/**
 * Finds attention that stays within chunks of the context (Llama 4), from the comparisons that make a graph's mask: positions are
 * divided before they are compared. The borders of chunks are places in the cache, and tokens of a prepared graph are at other
 * ones. It does not matter how config.json calls it. Sliding windows compare distances, which a prepared graph keeps.
 */
import type { GraphFacts } from "./inspect.ts";
import { producersByValue, type Producers } from "./nodes.ts";
import { Scalars } from "./scalars.ts";

const COMPARISON = /^(Greater|Less)(OrEqual)?$|^Equal$/;
/** Operators between a comparison and the division. */
const PASSES = /^(Add|Sub|Mul|Cast|Identity|Unsqueeze|Squeeze|Reshape|Expand|Floor|Neg|Transpose)$/;

export function hasAttentionChunks({
  nodes,
  weights,
}: Pick<GraphFacts, "nodes" | "weights">): boolean {
  const producers = producersByValue(nodes);
  const scalars = new Scalars(weights, producers);
  return nodes.some(
    ({ op, inputs }) =>
      COMPARISON.test(op) && inputs.some((input) => isDivided(input, producers, scalars)),
  );
}

/** Whether a value that depends on the inputs is divided by a number. */
function isDivided(name: string, producers: Producers, scalars: Scalars): boolean {
  const node = producers.get(name);
  if (!node) return false;
  if (/^(Div|Mod)$/.test(node.op)) {
    const [dividend, divisor] = node.inputs;
    return !scalars.isFixed(dividend) && (scalars.of(divisor) ?? 0) > 1;
  }
  return PASSES.test(node.op) && node.inputs.some((input) => isDivided(input, producers, scalars));
}
