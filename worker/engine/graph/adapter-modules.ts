/**
 * Finds the products of a graph that an adapter's modules change. Exporters lose the names of weights (`onnx::MatMul_733`), but the
 * values of a graph keep the path of their module: `/model/layers.0/self_attn/q_proj/MatMul_output_0` is computed by the module
 * `model.layers.0.self_attn.q_proj`.
 */
import { LOGITS } from "../decoder/graph-io.ts";
import type { GraphNode, Producers } from "./nodes.ts";

/** Operators that multiply by weights; an int8 export has MatMulInteger, which preparation replaces (row-scales.ts). */
const PRODUCTS = /^(MatMul|Gemm|FusedMatMul|MatMulNBits|MatMulBnb4|MatMulInteger(ToFloat)?)$/;
/** Modules of the last layer: its output has the graph's name. */
const OUTPUT_LAYERS = ["lm_head", "embed_out"];

/**
 * The product of each module.
 * @param modules paths in the PyTorch model
 * @throws Error that names a module without a product, or with several
 */
export function productsOf(
  modules: Iterable<string>,
  nodes: readonly GraphNode[],
  producers: Producers,
): Map<string, GraphNode> {
  const products: Product[] = nodes
    .filter(({ op }) => PRODUCTS.test(op))
    .map((node) => ({ node, outputs: outputNames(node), weights: weightNames(node, producers) }));
  const found = new Map<string, GraphNode>();
  for (const module of modules) {
    const key = dotted(/[^.]+\.\d+\..+$/.exec(module)?.[0] ?? module);
    const isNamed = (names: readonly string[]) => names.some((name) => name.includes(key));
    // The names of weights come second: an exporter stores equal weights once, under the name of one of them.
    const byOutput = products.filter(({ outputs }) => isNamed(outputs));
    const [first, ...more] =
      byOutput.length > 0 ? byOutput : products.filter(({ weights }) => isNamed(weights));
    if (!first || more.length > 0) {
      const problem = first
        ? `${more.length + 1} products have the name of the adapter's module ${module}`
        : `no product has the name of the adapter's module ${module}: ${reasonOf(module, products)}`;
      throw new Error(`the graph cannot have the adapter: ${problem}`);
    }
    found.set(module, first.node);
  }
  return found;
}

/** A product, and the names by which it may be found. */
interface Product {
  readonly node: GraphNode;
  readonly outputs: readonly string[];
  readonly weights: readonly string[];
}

/** Why no product has a module's name, by the layers that others' names have. */
function reasonOf(module: string, products: readonly Product[]): string {
  const [layer, list] = /([^.]+)\.\d+/.exec(module) ?? [];
  const names = products.flatMap(({ outputs, weights }) => [...outputs, ...weights]);
  if (layer !== undefined && !names.some((name) => name.includes(`.${layer}.`))) {
    const hasOthers = names.some((name) => new RegExp(`\\.${list}\\.\\d+\\.`).test(name));
    if (hasOthers) return `the graph has no ${layer}`;
  }
  return "the graph has no such module, or its exporter has renamed it or computes it together with others";
}

const outputNames = ({ outputs }: GraphNode) =>
  [...outputs, ...(outputs.includes(LOGITS) ? OUTPUT_LAYERS : [])].map(dotted);

/** The name of a product's weights, also if they were cast or transposed for it. */
function weightNames({ inputs }: GraphNode, producers: Producers): string[] {
  const name = inputs[1]!;
  const from = producers.get(name)?.inputs ?? [name];
  return from.some((each) => producers.has(each)) ? [] : [name, ...from].map(dotted);
}

const dotted = (name: string) => `.${plain(name)}.`;

/** onnxruntime-genai's builder writes `attn` for `self_attn`. */
const plain = (name: string) =>
  name.replace(/^\//, "").replaceAll("/", ".").replaceAll("self_attn", "attn");
