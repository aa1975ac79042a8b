/**
 * Adds LoRA adapters to a prepared graph, so that rows of one run use one of them each, or none. A product `y = x W` of a module
 * that adapters change becomes
 *     y = x W + ((x A) * mask) B
 * A and B are those of all adapters side by side (adapter-columns.ts). The mask is 0 but for the row's adapter, where it is that adapter's scale. So a row
 * without an adapter adds zeros: it has the logits of the graph without adapters, to the last bit.
 *
 * With DoRA (dora.ts) it is `y = (x W) * gain + ((x A) * mask) B`, where B has the gains of its outputs; the gain of a row without DoRA is 1.
 *
 * Products of the same input (queries, keys and values) share `(x A) * mask`, because small models pay for each node.
 */
import { ADAPTERS } from "../decoder/graph-io.ts";
import { readAdaptedGraph } from "./adapted-graph.ts";
import { columnsOf } from "./adapter-columns.ts";
import { findTargets, type Block, type LoraModules, type Target } from "./adapter-targets.ts";
import {
  floatConstant,
  int64Constant,
  integerAttribute,
  splitLast,
  standardNode,
  type GraphNode,
} from "./nodes.ts";
import { DATA_TYPE, GRAPH_PROTO, MODEL_PROTO } from "./onnx-proto.ts";
import { nodeField, rawFields } from "./onnx-wire.ts";
import { inputField } from "./value-info.ts";
import { floatInitializerParts, inField } from "./weights.ts";

/**
 * The graph of a model with adapters, and with the input `ADAPTERS`.
 * @throws Error with the module and the reason if an adapter does not fit
 */
export function addAdapters(model: Uint8Array, adapters: readonly LoraModules[]): Uint8Array {
  const graph = readAdaptedGraph(model);
  const { nodes, opset } = graph;
  const targets = findTargets(graph, adapters);
  const shared = new SharedNodes(adapters.length);
  const fields: Uint8Array[] = [];
  const replacements = new Map<GraphNode, readonly GraphNode[]>();
  for (const group of Map.groupBy(targets, ({ input }) => input).values()) {
    const { before, fields: matrices, changed } = addToGroup(group, shared, opset);
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
  const input = inputField(ADAPTERS, DATA_TYPE.float, [null, 1, adapters.length]);
  return withGraphFields(model, [...rewritten, ...shared.fields, ...fields, input]);
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

/** Nodes and weights that products with different inputs share: the masks of their columns. */
class SharedNodes {
  readonly nodes: GraphNode[] = [];
  readonly fields: Uint8Array[] = [];
  readonly #masks = new Map<string, string>();
  readonly #adapterCount: number;

  constructor(adapterCount: number) {
    this.#adapterCount = adapterCount;
  }

  /**
   * The mask [batch, 1, columns] of products with these blocks, whose columns follow each other; `/rows` of its name is the shape
   * [batch, -1, columns].
   */
  mask(products: readonly (readonly Block[])[]): string {
    const key = JSON.stringify(
      products.map((blocks) =>
        blocks.map(({ adapter, module: { rank, scale } }) => [adapter, rank, scale]),
      ),
    );
    const known = this.#masks.get(key);
    if (known !== undefined) return known;
    const name = `adapters/mask ${this.#masks.size}`;
    this.#masks.set(key, name);
    const total = totalWidth(products);
    const scales = new Float32Array(this.#adapterCount * total);
    for (const { first, blocks } of sideBySide(products)) {
      for (const [i, { adapter, module }] of blocks.entries()) {
        const start = adapter * total + first + columnsOf(blocks).starts[i]!;
        scales.fill(module.scale, start, start + module.rank);
      }
    }
    this.fields.push(
      ...floatInitializerParts(`${name}/scales`, [this.#adapterCount, total], scales),
    );
    this.nodes.push(standardNode("MatMul", [ADAPTERS, `${name}/scales`], name), ...anyTokens(name));
    return name;
  }

  /** The gains [batch, 1, outputs] of a product; null if no adapter has DoRA there. `/rows` as in `mask`. */
  gain({ path, blocks }: Target): string | null {
    if (blocks.every(({ module }) => !module.gain)) return null;
    const name = `adapters/${path}/gain`;
    const { outputs } = blocks[0]!.module;
    const changes = new Float32Array(this.#adapterCount * outputs);
    for (const { adapter, module } of blocks) {
      changes.set(module.gain?.map((gain) => gain - 1) ?? [], adapter * outputs);
    }
    this.fields.push(
      ...floatInitializerParts(`${name}/changes`, [this.#adapterCount, outputs], changes),
    );
    this.nodes.push(
      standardNode("MatMul", [ADAPTERS, `${name}/changes`], `${name}/change`),
      floatConstant(`${name}/one`, 1),
      standardNode("Add", [`${name}/change`, `${name}/one`], name),
      ...anyTokens(name),
    );
    return name;
  }
}

/** `/rows` of a value's name is its shape with any number of tokens. */
const anyTokens = (name: string): GraphNode[] => [
  standardNode("Shape", [name], `${name}/shape`),
  int64Constant(`${name}/any tokens`, [1n, -1n, 1n]),
  standardNode("Mul", [`${name}/shape`, `${name}/any tokens`], `${name}/rows`),
];

/** Adds the adapters to products with the same input. */
function addToGroup(group: readonly Target[], shared: SharedNodes, opset: number) {
  const [{ path, input, hasTokenAxis }] = group as [Target];
  const type = group.map((target) => target.type).find((known) => known !== null) ?? null;
  const isFloat32 = type === DATA_TYPE.float;
  const products = group.map(({ blocks }) => blocks);
  const name = `adapters/${path}`;
  const { inputs } = products[0]![0]!.module;
  const fields = floatInitializerParts(
    `${name}/A`,
    [inputs, totalWidth(products)],
    stackedA(products, inputs),
  );
  const before: GraphNode[] = [];
  const toFloat = integerAttribute("to", DATA_TYPE.float);
  if (!isFloat32) before.push(standardNode("Cast", [input], `${name}/x`, [toFloat]));
  before.push(standardNode("MatMul", [isFloat32 ? input : `${name}/x`, `${name}/A`], `${name}/xA`));
  before.push(...maskedNodes(`${name}/xA`, shared.mask(products), `${name}/masked`, hasTokenAxis));
  const parts = group.map((target) => ({
    output: group.length === 1 ? `${name}/masked` : `adapters/${target.path}/part`,
    size: columnsOf(target.blocks).width,
  }));
  if (group.length > 1) before.push(...splitLast(`${name}/masked`, parts, opset));
  const changed = new Map<GraphNode, readonly GraphNode[]>();
  for (const [i, target] of group.entries()) {
    const { path: own, product, blocks: of } = target;
    const { output: part, size } = parts[i]!;
    const [result] = product.outputs as [string];
    const value = (name: string) => `adapters/${own}/${name}`;
    fields.push(...floatInitializerParts(value("B"), [size, of[0]!.module.outputs], stackedB(of)));
    changed.set(product, [
      { ...product, outputs: [value("product")] },
      standardNode("MatMul", [part, value("B")], value("delta")),
      ...sumNodes(value, { type, gain: shared.gain(target), hasTokenAxis, result }),
    ]);
  }
  return { before, fields, changed };
}

/** The product, with its gain if it has one, and the delta. Each is rounded to the graph's type before the sum, so that a gain of 1 changes no bit. */
function sumNodes(
  value: (name: string) => string,
  {
    type,
    gain,
    hasTokenAxis,
    result,
  }: Pick<Target, "type" | "hasTokenAxis"> & {
    readonly gain: string | null;
    readonly result: string;
  },
): GraphNode[] {
  const [product, delta] = [value("product"), value("delta")];
  const isFloat32 = type === DATA_TYPE.float;
  const cast = (from: string, to: string) =>
    type === null
      ? standardNode("CastLike", [from, product], to)
      : standardNode("Cast", [from], to, [integerAttribute("to", type)]);
  const own = isFloat32 ? delta : value("cast");
  const scaled = gain === null ? product : value("scaled");
  return [
    ...(gain === null ? [] : scaledNodes(gain)),
    ...(isFloat32 ? [] : [cast(delta, own)]),
    standardNode("Add", [scaled, own], result),
  ];

  function scaledNodes(mask: string): GraphNode[] {
    if (isFloat32) return maskedNodes(product, mask, scaled, hasTokenAxis);
    const [float, inFloat] = [value("float"), value("float-scaled")];
    return [
      standardNode("Cast", [product], float, [integerAttribute("to", DATA_TYPE.float)]),
      ...maskedNodes(float, mask, inFloat, hasTokenAxis),
      cast(inFloat, scaled),
    ];
  }
}

/** `value * mask`, where the value's rows are those of the batch with one or several tokens each. */
function maskedNodes(
  value: string,
  mask: string,
  output: string,
  hasTokenAxis: boolean,
): GraphNode[] {
  if (hasTokenAxis) return [standardNode("Mul", [value, mask], output)];
  return [
    standardNode("Reshape", [value, `${mask}/rows`], `${value}/rows`),
    standardNode("Mul", [`${value}/rows`, mask], `${output}/rows`),
    standardNode("Shape", [value], `${value}/shape`),
    standardNode("Reshape", [`${output}/rows`, `${value}/shape`], output),
  ];
}

const totalWidth = (products: readonly (readonly Block[])[]) =>
  products.reduce((sum, blocks) => sum + columnsOf(blocks).width, 0);

/** The blocks of products whose columns follow each other, with the first column of each product. */
function sideBySide(products: readonly (readonly Block[])[]) {
  let next = 0;
  return products.map((blocks) => {
    const first = next;
    next += columnsOf(blocks).width;
    return { first, blocks };
  });
}

/** [inputs, columns]: the transposed A of each block, side by side. */
function stackedA(products: readonly (readonly Block[])[], inputs: number): Float32Array {
  const columns = totalWidth(products);
  const stacked = new Float32Array(inputs * columns);
  for (const { first, blocks } of sideBySide(products)) {
    const { starts } = columnsOf(blocks);
    for (const [n, { module }] of blocks.entries()) {
      for (let r = 0; r < module.rank; r++) {
        const column = first + starts[n]! + r;
        for (let i = 0; i < inputs; i++) stacked[i * columns + column] = module.a[r * inputs + i]!;
      }
    }
  }
  return stacked;
}

/** [columns, outputs]: the transposed B of each block, one below the other, with its gains. */
function stackedB(blocks: readonly Block[]): Float32Array {
  const { outputs } = blocks[0]!.module;
  const { starts, width } = columnsOf(blocks);
  const stacked = new Float32Array(width * outputs);
  for (const [n, { module }] of blocks.entries()) {
    for (let r = 0; r < module.rank; r++) {
      const row = starts[n]! + r;
      for (let o = 0; o < outputs; o++) {
        stacked[row * outputs + o] = module.b[o * module.rank + r]! * (module.gain?.[o] ?? 1);
      }
    }
  }
  return stacked;
}
