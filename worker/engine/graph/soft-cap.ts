/** Whether attention scores have a soft cap: a Tanh between the product of queries and keys and the Softmax. */
import type { GraphFacts } from "./inspect.ts";
import { producersByValue, type Producers } from "./nodes.ts";
import { ATTRIBUTE_PROTO } from "./onnx-proto.ts";
import { attributeNamed, readFloat } from "./onnx-wire.ts";

/** Operators between the product and the Softmax. */
const BETWEEN =
  /^(Add|Sub|Mul|Div|Where|Cast|Tanh|Reshape|Transpose|Unsqueeze|Expand|Min|Max|Clip)$/;

export function hasSoftCap({ nodes }: Pick<GraphFacts, "nodes">): boolean {
  const producers = producersByValue(nodes);
  return nodes.some(({ op, inputs, attributes }) => {
    // Fused attention has the cap as an attribute.
    const cap = attributeNamed(attributes, "softcap");
    if (cap && (readFloat(cap, ATTRIBUTE_PROTO.f) ?? 0) > 0) return true;
    return op === "Softmax" && followsTanh(inputs[0]!, producers);
  });
}

function followsTanh(name: string, producers: Producers): boolean {
  const seen = new Set<string>();
  const waiting = [name];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    if (seen.has(next)) continue;
    seen.add(next);
    const node = producers.get(next);
    if (!node || !BETWEEN.test(node.op)) continue;
    if (node.op === "Tanh") return true;
    waiting.push(...node.inputs);
  }
  return false;
}
