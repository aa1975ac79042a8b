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
import {
  findTargets,
  type AdaptedGraph,
  type Block,
  type LoraModules,
  type Target,
} from "./adapter-targets.ts";
import {
  int64Constant,
  integerAttribute,
  splitLast,
  standardNode,
  type GraphNode,
} from "./nodes.ts";
import { DATA_TYPE, GRAPH_PROTO, MODEL_PROTO } from "./onnx-proto.ts";
import { nodeField, rawFields, readNode, standardOpset } from "./onnx-wire.ts";
import { inputField } from "./value-info.ts";
import { floatInitializerParts, inField, readWeightInfo, type WeightInfo } from "./weights.ts";

/**
 * The graph of a model with adapters, and with the input `ADAPTERS`.
 * @throws Error with the module and the reason if an adapter does not fit
 */
export function addAdapters(model: Uint8Array, adapters: readonly LoraModules[]): Uint8Array {
  const graph = readGraph(model);
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

function readGraph(model: Uint8Array): AdaptedGraph {
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
  return { nodes, weights, opset: standardOpset(model) };
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

  /** The mask [batch, 1, ranks] of these blocks; `/rows` of its name is the shape [batch, -1, ranks]. */
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
    this.nodes.push(
      standardNode("MatMul", [ADAPTERS, `${name}/scales`], name),
      standardNode("Shape", [name], `${name}/shape`),
      int64Constant(`${name}/any tokens`, [1n, -1n, 1n]),
      standardNode("Mul", [`${name}/shape`, `${name}/any tokens`], `${name}/rows`),
    );
    return name;
  }
}

/** Adds the adapters to products with the same input. */
function addToGroup(group: readonly Target[], shared: SharedNodes, opset: number) {
  const [{ path, input, hasTokenAxis }] = group as [Target];
  const type = group.map((target) => target.type).find((known) => known !== null) ?? null;
  const isFloat32 = type === DATA_TYPE.float;
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
  before.push(...maskedNodes(`${name}/xA`, shared.mask(blocks), `${name}/masked`, hasTokenAxis));
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
    const cast =
      type === null
        ? standardNode("CastLike", [value("delta"), value("product")], value("cast"))
        : standardNode("Cast", [value("delta")], value("cast"), [integerAttribute("to", type)]);
    changed.set(product, [
      { ...product, outputs: [value("product")] },
      delta,
      ...(isFloat32 ? [] : [cast]),
      standardNode("Add", [value("product"), value(isFloat32 ? "delta" : "cast")], result),
    ]);
  }
  return { before, fields, changed };
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
