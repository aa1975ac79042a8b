/**
 * Finds where a graph computes otherwise from some length on: an If, or a Where between two weights, whose condition compares a
 * length with a number. onnxruntime-genai's builder chooses the factors of long rotary positions (LongRope) in this way, by the
 * width of the mask. Such a graph is used up to that length only.
 */
import type { GraphFacts } from "./inspect.ts";
import { producersByValue, type GraphNode, type Producers } from "./nodes.ts";
import { Scalars } from "./scalars.ts";

/** The inputs whose lengths or values grow with a sequence. */
const LENGTH_INPUT = /^(input_ids|attention_mask|position_ids|past_key_values\.)/;

/**
 * Tokens up to which the graph computes in one way; null if it always does.
 * @throws Error if it changes at a length that cannot be read
 */
export function lengthSwitch({
  nodes,
  weights,
}: Pick<GraphFacts, "nodes" | "weights">): number | null {
  const producers = producersByValue(nodes);
  const scalars = new Scalars(weights, producers);
  const lengths = nodes
    .filter((node) => isSwitch(node, scalars) && dependsOnLength(node.inputs[0]!, producers))
    .map((node) => borderOf(node.inputs[0]!, producers, scalars));
  if (lengths.length === 0) return null;
  if (lengths.includes(null)) {
    throw new Error("the graph computes otherwise from a length on that cannot be read");
  }
  return Math.min(...(lengths as number[]));
}

function isSwitch({ op, inputs }: GraphNode, scalars: Scalars): boolean {
  if (op === "If") return true;
  return (
    op === "Where" &&
    scalars.isFixed(inputs[1]) &&
    scalars.isFixed(inputs[2]) &&
    isLarge(inputs, scalars)
  );
}

/** A Where between two numbers makes a mask. */
const isLarge = ([, one, other]: readonly string[], scalars: Scalars) =>
  scalars.of(one) === null && scalars.of(other) === null;

function dependsOnLength(name: string, producers: Producers): boolean {
  const seen = new Set<string>();
  const waiting = [name];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    if (seen.has(next)) continue;
    seen.add(next);
    if (LENGTH_INPUT.test(next)) return true;
    waiting.push(...(producers.get(next)?.inputs ?? []));
  }
  return false;
}

/** Operators that pass a condition on. */
const PASSES = new Set(["Cast", "Identity", "Squeeze", "Unsqueeze", "Reshape", "Not", "ReduceMax"]);

/** By operator: the largest length on the near side of a comparison `length op number`, less the number. */
const BORDERS: Readonly<Record<string, number>> = {
  Greater: 0,
  LessOrEqual: 0,
  GreaterOrEqual: -1,
  Less: -1,
};
const TURNED: Readonly<Record<string, string>> = {
  Greater: "Less",
  Less: "Greater",
  GreaterOrEqual: "LessOrEqual",
  LessOrEqual: "GreaterOrEqual",
};

/** The largest length for which a condition is as it is for short ones; null if it is not a comparison with a number. */
function borderOf(name: string, producers: Producers, scalars: Scalars): number | null {
  const node = producers.get(name);
  if (!node) return null;
  if (PASSES.has(node.op)) return borderOf(node.inputs[0]!, producers, scalars);
  const [left, right] = node.inputs;
  const [first, second] = [scalars.of(left), scalars.of(right)];
  const turned = first !== null;
  const number = turned ? first : second;
  const border = BORDERS[turned ? (TURNED[node.op] ?? "") : node.op];
  if (number === null || Number.isNaN(number) || border === undefined) return null;
  return Math.ceil(number) + border;
}
