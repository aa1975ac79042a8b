/**
 * Removes the Casts of caches. transformers.js' scripts write float16 files in this form: inputs and outputs stay float32, and each
 * cache is cast to float16 before Concat, and back after it. All its values come from float16 numbers, so without the Casts the
 * cache holds the same ones in half the memory. Other graphs (GPT-J) cast from float32 to float32.
 */
import { PAST } from "../decoder/graph-io.ts";
import type { GraphNode } from "./nodes.ts";
import { DATA_TYPE } from "./onnx-proto.ts";
import { readIntegerAttribute } from "./onnx-wire.ts";

export interface WithoutCacheCasts {
  readonly nodes: readonly GraphNode[];
  /** The caches whose inputs have to become float16. */
  readonly float16Caches: ReadonlySet<string>;
}

export function removeCacheCasts(nodes: readonly GraphNode[]): WithoutCacheCasts {
  const float16Caches = new Set(nodes.filter(isCacheCast).map(({ inputs }) => inputs[0]!));
  for (const node of nodes) {
    // Another operator would get another type.
    if (node.op === "Shape" || isCacheCast(node)) continue;
    for (const name of node.inputs) float16Caches.delete(name);
  }
  const names = new Map<string, string>();
  const kept = nodes.filter((node) => {
    const [from, to] = [node.inputs[0]!, node.outputs[0]!];
    if (node.op !== "Cast") return true;
    if (isCacheCast(node) && float16Caches.has(from)) names.set(to, from);
    else if (to.startsWith("present")) names.set(from, to);
    else return true;
    return false;
  });
  const rename = (name: string) => names.get(name) ?? name;
  return {
    nodes: kept.map((node) => ({
      ...node,
      inputs: node.inputs.map(rename),
      outputs: node.outputs.map(rename),
    })),
    float16Caches,
  };
}

function isCacheCast({ op, inputs, attributes }: GraphNode): boolean {
  const isFloat16 = readIntegerAttribute(attributes, "to") === DATA_TYPE.float16;
  return op === "Cast" && isFloat16 && inputs[0]!.startsWith(PAST);
}
