/**
 * Adds LoRA adapters to a prepared graph, so that rows of one run use one of them each, or none. A product `y = x W` of a module
 * that adapters change becomes
 *     y = x W + ((x A) * mask) B
 * A and B are those of all adapters side by side. The mask is 0 but for the row's adapter, where it is that adapter's scale. So a row
 * without an adapter adds zeros: it has the logits of the graph without adapters, to the last bit.
 *
 * Products of the same input (queries, keys and values) share `(x A) * mask`, because small models pay for each node.
 */
import { ADAPTERS } from "../decoder/graph-io.ts";
import { productsOf } from "./adapter-modules.ts";
import {
  integerAttribute,
  producersByValue,
  splitLast,
  standardNode,
  type GraphNode,
  type Producers,
} from "./nodes.ts";
import { ATTRIBUTE_PROTO, DATA_TYPE, GRAPH_PROTO, MODEL_PROTO } from "./onnx-proto.ts";
import {
  attributeNamed,
  nodeField,
  rawFields,
  readFields,
  readIntegerAttribute,
  readNode,
  standardOpset,
} from "./onnx-wire.ts";
import { inputField } from "./value-info.ts";
import {
  floatInitializerParts,
  inField,
  readDims,
  readWeightInfo,
  type WeightInfo,
} from "./weights.ts";

/** The two matrices of one module. */
export interface LoraModule {
  readonly rank: number;
  readonly inputs: number;
  readonly outputs: number;
  /** Factor of the product with both matrices. */
  readonly scale: number;
  /** [rank, inputs] */
  readonly a: Float32Array;
  /** [outputs, rank] */
  readonly b: Float32Array;
}

/** By module path in the PyTorch model, such as `model.layers.0.self_attn.q_proj`. */
export type LoraModules = ReadonlyMap<string, LoraModule>;

/** One adapter's part of the matrices of some module. */
interface Block {
  readonly adapter: number;
  readonly module: LoraModule;
}

/** A product that adapters change. */
interface Target {
  readonly path: string;
  readonly product: GraphNode;
  /** The product's left side, in floats. */
  readonly input: string;
  /** Whether it is [batch, tokens, inputs]; otherwise it may be [batch * tokens, inputs]. */
  readonly hasTokenAxis: boolean;
  /** Whether values are float32 without a Cast. */
  readonly isFloat32: boolean;
  readonly blocks: readonly Block[];
}

/**
 * The graph of a model with adapters, and with the input `ADAPTERS`.
 * @throws Error with the module and the reason if an adapter does not fit
 */
export function addAdapters(model: Uint8Array, adapters: readonly LoraModules[]): Uint8Array {
  const { nodes, weights } = readGraph(model);
  const targets = findTargets(nodes, weights, adapters);
  const shared = new SharedNodes(adapters.length);
  const fields: Uint8Array[] = [];
  const replacements = new Map<GraphNode, readonly GraphNode[]>();
  for (const group of Map.groupBy(targets, ({ input }) => input).values()) {
    const { before, fields: matrices, changed } = addToGroup(group, shared, standardOpset(model));
    fields.push(...matrices);
    // In topological order the first product stands behind the group's input.
    for (const [product, after] of changed) replacements.set(product, after);
    const first = nodes.find((node) => replacements.has(node) && changed.has(node))!;
    replacements.set(first, [...before, ...changed.get(first)!]);
  }
  const rewritten = [
    ...shared.nodes,
    ...nodes.flatMap((node) => replacements.get(node) ?? [node]),
  ].map(nodeField);
  const input = inputField(ADAPTERS, DATA_TYPE.float, [null, null, adapters.length]);
  return withGraphFields(model, [...rewritten, ...shared.fields, ...fields, input]);
}

function readGraph(model: Uint8Array) {
  const nodes: GraphNode[] = [];
  const weights = new Map<string, WeightInfo>();
  for (const { field, content } of rawFields(model)) {
    if (field !== MODEL_PROTO.graph) continue;
    for (const part of rawFields(content)) {
      if (part.field === GRAPH_PROTO.node) nodes.push(readNode(part.content));
      if (part.field !== GRAPH_PROTO.initializer) continue;
      const weight = readWeightInfo(part.content);
      weights.set(weight.name, weight);
    }
  }
  return { nodes, weights };
}

/** The model with these fields of the graph instead of its nodes; a field may be in several parts. */
function withGraphFields(model: Uint8Array, fields: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat(
    Array.from(rawFields(model)).flatMap(({ field, raw, content }) => {
      if (field !== MODEL_PROTO.graph) return [raw];
      const kept = Array.from(rawFields(content)).filter((part) => part.field !== GRAPH_PROTO.node);
      return inField(field, [...kept.map((part) => part.raw), ...fields]);
    }),
  );
}

function findTargets(
  nodes: readonly GraphNode[],
  weights: ReadonlyMap<string, WeightInfo>,
  adapters: readonly LoraModules[],
): Target[] {
  const producers = producersByValue(nodes);
  const paths = new Set(adapters.flatMap((modules) => [...modules.keys()]));
  return Array.from(productsOf(paths, nodes, producers), ([path, product]) => {
    const blocks = adapters.flatMap((modules, adapter) => {
      const module = modules.get(path);
      return module ? [{ adapter, module }] : [];
    });
    const [left, right, scales] = product.inputs as [string, string, string?];
    const weight = weights.get(right);
    for (const { module } of blocks) checkSizes(path, module, sizesOf(product, weight));
    const quantized = product.op === "MatMulIntegerToFloat" ? producers.get(left) : undefined;
    // The Div before QuantizeLinear that row-scales.ts writes.
    const input = quantized ? producers.get(quantized.inputs[0]!)?.inputs[0] : left;
    if (input === undefined || product.op === "MatMulInteger") {
      throw new Error(`the product of the adapter's module ${path} has an unknown form`);
    }
    const floats = /NBits|Bnb4/.test(product.op) ? weights.get(scales!) : weight;
    const isFloat32 = quantized !== undefined || floats?.type === DATA_TYPE.float;
    const reshape = producers.get(input);
    const hasTokenAxis =
      product.op !== "Gemm" &&
      (reshape?.op !== "Reshape" || axesOf(reshape, producers, weights) === 3);
    return { path, product, input, hasTokenAxis, isFloat32, blocks };
  });
}

/** How many axes a Reshape makes; null if it is not known. */
function axesOf(
  { inputs }: GraphNode,
  producers: Producers,
  weights: ReadonlyMap<string, WeightInfo>,
): number | null {
  const [, shape] = inputs as [string, string];
  const producer = producers.get(shape);
  if (producer?.op === "Concat") return producer.inputs.length;
  const value = producer?.op === "Constant" && attributeNamed(producer.attributes, "value");
  const [tensor] = value ? readFields(value, [ATTRIBUTE_PROTO.t]) : [];
  const [axes] = tensor ? readDims(tensor[1]) : (weights.get(shape)?.dims ?? []);
  return axes ?? null;
}

/** Sizes [inputs, outputs] of a product's weights; null if they are not known. */
function sizesOf(
  { op, attributes }: GraphNode,
  weight: WeightInfo | undefined,
): readonly [number, number] | null {
  if (/NBits|Bnb4/.test(op)) {
    const [inputs, outputs] = ["K", "N"].map((name) => readIntegerAttribute(attributes, name));
    return inputs && outputs ? [inputs, outputs] : null;
  }
  if (weight?.dims.length !== 2) return null;
  const [rows, columns] = weight.dims as [number, number];
  return readIntegerAttribute(attributes, "transB") ? [columns, rows] : [rows, columns];
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

/** Nodes and weights that products with different inputs share: the masks of their columns. */
class SharedNodes {
  readonly nodes: GraphNode[] = [];
  readonly fields: Uint8Array[] = [];
  readonly #masks = new Map<string, string>();
  readonly #adapterCount: number;

  constructor(adapterCount: number) {
    this.#adapterCount = adapterCount;
  }

  /** The mask [batch, tokens, ranks] of these blocks. */
  mask(blocks: readonly Block[]): string {
    const key = JSON.stringify(
      blocks.map(({ adapter, module: { rank, scale } }) => [adapter, rank, scale]),
    );
    const known = this.#masks.get(key);
    if (known !== undefined) return known;
    const name = `adapters/mask ${this.#masks.size}`;
    this.#masks.set(key, name);
    const ranks = totalRank(blocks);
    const scales = new Float32Array(this.#adapterCount * ranks);
    let column = 0;
    for (const { adapter, module } of blocks) {
      const start = adapter * ranks + column;
      scales.fill(module.scale, start, start + module.rank);
      column += module.rank;
    }
    this.fields.push(
      ...floatInitializerParts(`${name}/scales`, [this.#adapterCount, ranks], scales),
    );
    this.nodes.push(standardNode("MatMul", [ADAPTERS, `${name}/scales`], name));
    return name;
  }
}

/** Adds the adapters to products with the same input. */
function addToGroup(group: readonly Target[], shared: SharedNodes, opset: number) {
  const [{ path, input, hasTokenAxis, isFloat32 }] = group as [Target];
  const blocks = group.flatMap((target) => target.blocks);
  const ranks = totalRank(blocks);
  const name = `adapters/${path}`;
  const fields = floatInitializerParts(
    `${name}/A`,
    [blocks[0]!.module.inputs, ranks],
    stackedA(blocks, ranks),
  );
  const before: GraphNode[] = [];
  const toFloat = integerAttribute("to", DATA_TYPE.float);
  if (!isFloat32) before.push(standardNode("Cast", [input], `${name}/x`, [toFloat]));
  before.push(standardNode("MatMul", [isFloat32 ? input : `${name}/x`, `${name}/A`], `${name}/xA`));
  let mask = shared.mask(blocks);
  if (!hasTokenAxis) {
    const shape = standardNode("Shape", [`${name}/xA`], `${name}/shape`);
    before.push(shape, standardNode("Reshape", [mask, `${name}/shape`], `${name}/mask`));
    mask = `${name}/mask`;
  }
  before.push(standardNode("Mul", [`${name}/xA`, mask], `${name}/masked`));
  const parts = group.map((target) => ({
    output: group.length === 1 ? `${name}/masked` : `adapters/${target.path}/part`,
    size: totalRank(target.blocks),
  }));
  if (group.length > 1) before.push(...splitLast(`${name}/masked`, parts, opset));
  const changed = new Map<GraphNode, readonly GraphNode[]>();
  for (const [i, { path: own, product, blocks: of }] of group.entries()) {
    const { output: part, size } = parts[i]!;
    const [result] = product.outputs as [string];
    const value = (name: string) => `adapters/${own}/${name}`;
    fields.push(...floatInitializerParts(value("B"), [size, of[0]!.module.outputs], stackedB(of)));
    const delta = standardNode("MatMul", [part, value("B")], value("delta"));
    // CastLike is a standard operator from this version on.
    const needsCast = !isFloat32 && opset >= 15;
    const cast = standardNode("CastLike", [value("delta"), value("product")], value("cast"));
    changed.set(product, [
      { ...product, outputs: [value("product")] },
      delta,
      ...(needsCast ? [cast] : []),
      standardNode("Add", [value("product"), value(needsCast ? "cast" : "delta")], result),
    ]);
  }
  return { before, fields, changed };
}

const totalRank = (blocks: readonly Block[]) =>
  blocks.reduce((sum, { module: { rank } }) => sum + rank, 0);

/** [inputs, ranks]: the transposed A of each block, side by side. */
function stackedA(blocks: readonly Block[], ranks: number): Float32Array {
  const { inputs } = blocks[0]!.module;
  const stacked = new Float32Array(inputs * ranks);
  let column = 0;
  for (const { module } of blocks) {
    for (let r = 0; r < module.rank; r++, column++) {
      for (let i = 0; i < inputs; i++) stacked[i * ranks + column] = module.a[r * inputs + i]!;
    }
  }
  return stacked;
}

/** [ranks, outputs]: the transposed B of each block, one below the other. */
function stackedB(blocks: readonly Block[]): Float32Array {
  const { outputs } = blocks[0]!.module;
  const stacked = new Float32Array(totalRank(blocks) * outputs);
  let row = 0;
  for (const { module } of blocks) {
    for (let r = 0; r < module.rank; r++, row++) {
      for (let o = 0; o < outputs; o++) stacked[row * outputs + o] = module.b[o * module.rank + r]!;
    }
  }
  return stacked;
}
