/** Finds the products of a graph that adapters change, and checks that each has a form to which LoRA can be added. */
import { ofAdapter } from "./adapter-error.ts";
import { productsOf } from "./adapter-modules.ts";
import { axesByValue } from "./axes.ts";
import { producersByValue, type GraphNode, type Producers } from "./nodes.ts";
import { ATTRIBUTE_PROTO, DATA_TYPE } from "./onnx-proto.ts";
import { attributeNamed, readFloat, readIntegerAttribute } from "./onnx-wire.ts";
import { withTransposed } from "./tied-weights.ts";
import { withCasts, type WeightInfo } from "./weights.ts";

/** Sizes of the two matrices of one module. */
export interface ModuleSizes {
  readonly rank: number;
  readonly inputs: number;
  readonly outputs: number;
}

/** By module path. */
export type AdapterSizes = ReadonlyMap<string, ModuleSizes>;

/** The two matrices of one module. */
export interface LoraModule extends ModuleSizes {
  /** The adapter's, for errors. */
  readonly folder: string;
  /** Factor of the product with both matrices. */
  readonly scale: number;
  /** [rank, inputs] */
  readonly a: Float32Array;
  /** [outputs, rank] */
  readonly b: Float32Array;
  /** With DoRA: the norm of each output's weights, [outputs] (dora.ts). */
  readonly magnitude?: Float32Array;
  /** With DoRA, when the weights are known: a factor of each output, [outputs]. */
  readonly gain?: Float32Array;
}

/** By module path in the PyTorch model, such as `model.layers.0.self_attn.q_proj`. */
export type LoraModules = ReadonlyMap<string, LoraModule>;

/** One adapter's part of the matrices of some module. */
export interface Block {
  readonly adapter: number;
  readonly module: LoraModule;
}

/** A product that adapters change. */
export interface Target {
  readonly path: string;
  readonly product: GraphNode;
  /** The product's left side, in floats. */
  readonly input: string;
  /** DATA_TYPE of the left side and of the product; null if it is not known. */
  readonly type: number | null;
  /** Whether it surely is [batch, tokens, inputs]; otherwise it may be [batch * tokens, inputs]. */
  readonly hasTokenAxis: boolean;
  readonly blocks: readonly Block[];
}

/** A prepared graph without the values of its weights. */
export interface AdaptedGraph {
  readonly nodes: readonly GraphNode[];
  readonly weights: ReadonlyMap<string, Omit<WeightInfo, "name">>;
  /** Version of the standard operators. */
  readonly opset: number;
}

type Weights = AdaptedGraph["weights"];

/** CastLike is a standard operator from this version on. */
const CAST_LIKE_OPSET = 15;

/** @throws AdapterError with the module and the reason if an adapter does not fit */
export function findTargets(
  { nodes, weights: stored, opset }: AdaptedGraph,
  adapters: readonly LoraModules[],
): Target[] {
  // Those in bfloat16 are cast (bfloat16.ts).
  const weights = withCasts(nodes, stored);
  const producers = producersByValue(nodes);
  const axes = axesByValue(nodes, weights);
  const matrices = withTransposed(nodes, weights);
  const products = adapters.flatMap((modules) =>
    ofModules(modules.values(), () => [...productsOf(modules.keys(), nodes, producers)]),
  );
  return Array.from(new Map(products), ([path, product]) => {
    const blocks = adapters.flatMap((modules, adapter) => {
      const module = modules.get(path);
      return module ? [{ adapter, module }] : [];
    });
    const sizes = sizesOf(product, matrices.get(product.inputs[1]!));
    const input = isPlain(product, weights) ? floatInput(product, producers) : null;
    const type = typeOf(product, weights);
    const isKnown = input !== null && (type !== null || opset >= CAST_LIKE_OPSET);
    for (const { module } of blocks) {
      ofAdapter(module.folder, () => {
        checkSizes(path, module, sizes);
        if (module.magnitude) checkTakesGain(path, product);
        if (isKnown) return;
        throw new Error(`the product of the adapter's module ${path} has an unknown form`);
      });
    }
    return { path, product, input: input!, type, hasTokenAxis: axes.get(input!) === 3, blocks };
  });
}

/** @throws AdapterError with the folder of these modules */
function ofModules<T>(modules: Iterable<LoraModule>, use: () => T): T {
  const [first] = modules;
  return first ? ofAdapter(first.folder, use) : use();
}

/** Whether a product is `x W`, without a factor and with x as it is. */
function isPlain({ inputs, attributes }: GraphNode, weights: Weights): boolean {
  const alpha = attributeNamed(attributes, "alpha");
  const factor = alpha ? readFloat(alpha, ATTRIBUTE_PROTO.f) : 1;
  const isTransposed = ["transA", "transBatchA", "transBatchB"].some((name) =>
    readIntegerAttribute(attributes, name),
  );
  return factor === 1 && !isTransposed && !weights.has(inputs[0]!);
}

/** The left side before it was quantized, if it was; null if it is not known. */
function floatInput({ op, inputs }: GraphNode, producers: Producers): string | null {
  const [left, , scale] = inputs as [string, string, string?];
  if (op === "MatMulInteger") return null;
  if (op !== "MatMulIntegerToFloat") return left;
  const quantized = producers.get(left);
  if (quantized?.op === "DynamicQuantizeLinear") {
    return quantized.outputs[0] === left && quantized.outputs[1] === scale
      ? quantized.inputs[0]!
      : null;
  }
  // row-scales.ts writes `QuantizeLinear(x / scale)`.
  const levels = quantized?.op === "QuantizeLinear" ? producers.get(quantized.inputs[0]!) : null;
  return levels?.op === "Div" && levels.inputs[1] === scale ? levels.inputs[0]! : null;
}

const FLOATS: ReadonlySet<number> = new Set([
  DATA_TYPE.float,
  DATA_TYPE.float16,
  DATA_TYPE.bfloat16,
]);

const hasBlocks = (op: string) => /NBits|Bnb4/.test(op);

function typeOf({ op, inputs }: GraphNode, weights: Weights): number | null {
  if (op === "MatMulIntegerToFloat") return DATA_TYPE.float;
  const floats = weights.get(inputs[hasBlocks(op) ? 2 : 1]!);
  return floats && FLOATS.has(floats.type) ? floats.type : null;
}

/** Sizes [inputs, outputs] of a product's weights; null if they are not known. */
function sizesOf(
  { op, attributes }: GraphNode,
  weight: Omit<WeightInfo, "name"> | undefined,
): readonly [number, number] | null {
  if (hasBlocks(op)) {
    const [inputs, outputs] = ["K", "N"].map((name) => readIntegerAttribute(attributes, name));
    return inputs && outputs ? [inputs, outputs] : null;
  }
  if (weight?.dims.length !== 2) return null;
  const [rows, columns] = weight.dims as [number, number];
  return readIntegerAttribute(attributes, "transB") ? [columns, rows] : [rows, columns];
}

/** @throws Error if the norm of the product's weights is not known, or if the product has a bias, which DoRA does not scale */
function checkTakesGain(path: string, { op, inputs }: GraphNode): void {
  const problem = hasBlocks(op)
    ? "weights in blocks"
    : op === "Gemm" && inputs[2]
      ? "a bias in the product"
      : null;
  if (problem === null) return;
  throw new Error(
    `use_dora is not supported with ${problem}, as the module ${path} has: merge the adapter with \`npm run models -- export … --adapter\``,
  );
}

function checkSizes(
  path: string,
  { inputs, outputs }: LoraModule,
  sizes: readonly [number, number] | null,
): void {
  if (!sizes || (sizes[0] === inputs && sizes[1] === outputs)) return;
  throw new Error(
    `the adapter's module ${path} has ${inputs} inputs and ${outputs} outputs, but the graph's has ${sizes.join(" and ")}`,
  );
}
