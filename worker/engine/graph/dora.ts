/**
 * DoRA (arXiv 2402.09353): the weights of an output, W + s B A, are scaled to a learned norm, its magnitude m. So a module computes
 *     g * (x W + s (x A) B)    with g = m / |W + s B A| for each output
 * The norms are computed whenever a graph is loaded with the adapter, by a graph of their own over the same weights.
 */
import { createSession, type GraphInMemory, type SessionOptions } from "../decoder/session.ts";
import { AdapterError } from "./adapter-error.ts";
import {
  findTargets,
  type AdaptedGraph,
  type Block,
  type LoraModules,
  type Target,
} from "./adapter-targets.ts";
import { readAdaptedGraph } from "./adapted-graph.ts";
import {
  int64Constant,
  integerAttribute,
  producersByValue,
  standardNode,
  type GraphNode,
  type Producers,
} from "./nodes.ts";
import { DATA_TYPE, GRAPH_PROTO, MODEL_PROTO } from "./onnx-proto.ts";
import { nodeField, rawFields, readIntegerAttribute } from "./onnx-wire.ts";
import { outputField } from "./value-info.ts";
import { floatInitializerParts, inField } from "./weights.ts";

/** The adapters with the gains of their modules. @throws Error with the module and the reason if one does not fit */
export async function withGains(
  model: GraphInMemory,
  adapters: readonly LoraModules[],
  options: SessionOptions,
): Promise<readonly LoraModules[]> {
  const hasDora = adapters.some((modules) => [...modules.values()].some(isDora));
  if (!hasDora) return adapters;
  const graph = readAdaptedGraph(model.bytes);
  const targets = findTargets(graph, adapters);
  const norms = await normsOf(model, targets, { ...options, graph });
  return adapters.map(
    (modules, adapter) =>
      new Map(
        Array.from(modules, ([path, module]) => {
          const squares = norms.get(nameOf(path, adapter));
          const { magnitude } = module;
          if (!squares || !magnitude) return [path, module] as const;
          const gain = magnitude.map((m, output) => m / Math.sqrt(squares[output]!));
          if (!gain.every(Number.isFinite)) {
            const reason = `the weights of the adapter's module ${path} have a norm of 0`;
            throw new AdapterError(module.folder, new Error(reason));
          }
          return [path, { ...module, gain }] as const;
        }),
      ),
  );
}

const isDora = ({ magnitude }: { readonly magnitude?: Float32Array }) => magnitude !== undefined;

const nameOf = (path: string, adapter: number) => `dora/${path}/${adapter}`;

/** Squares of the norms, by `nameOf`. */
async function normsOf(
  { bytes, folder }: GraphInMemory,
  targets: readonly Target[],
  { graph, ...options }: SessionOptions & { readonly graph: AdaptedGraph },
): Promise<ReadonlyMap<string, Float32Array>> {
  const producers = producersByValue(graph.nodes);
  const fields: Uint8Array[] = [];
  const nodes: GraphNode[] = [int64Constant("dora/inputs", [0n])];
  const names: string[] = [];
  for (const target of targets) {
    const blocks = target.blocks.filter(({ module }) => isDora(module));
    if (blocks.length === 0) continue;
    // Weights in bfloat16 are cast.
    const cast = producers.get(target.product.inputs[1]!);
    nodes.push(...(cast ? [cast] : []), ...weightNodes(target, producers));
    for (const block of blocks) {
      const name = nameOf(target.path, block.adapter);
      names.push(name);
      fields.push(
        ...deltaFields(name, block),
        outputField(name, DATA_TYPE.float, [block.module.outputs]),
      );
      nodes.push(
        standardNode("MatMul", [`${name}/A`, `${name}/B`], `${name}/delta`),
        standardNode("Add", [weightOf(target), `${name}/delta`], `${name}/sum`),
        standardNode("Mul", [`${name}/sum`, `${name}/sum`], `${name}/squares`),
        standardNode("ReduceSum", [`${name}/squares`, "dora/inputs"], name, [
          integerAttribute("keepdims", 0),
        ]),
      );
    }
  }
  const ofNorms = { bytes: withOnlyWeights(bytes, [...nodes.map(nodeField), ...fields]), folder };
  // This graph has no inputs: onnxruntime would compute it while it loads, with the sums of all modules in memory at once.
  const session = await createSession(ofNorms, {
    ...options,
    executionProvider: "cpu",
    isUnchanged: true,
  });
  try {
    const results = await session.run({}, names);
    return new Map(names.map((name) => [name, results[name]!.data as Float32Array]));
  } finally {
    await session.release();
  }
}

const weightOf = ({ path }: Target) => `dora/${path}/weight`;

/** The weights of a target as float32 [inputs, outputs]. */
function weightNodes(target: Target, producers: Producers): GraphNode[] {
  const { product } = target;
  const name = weightOf(target);
  const toFloat = [integerAttribute("to", DATA_TYPE.float)];
  const [, weight, , scale, , zeroPoint] = product.inputs as [string, string, ...string[]];
  const values = standardNode("Cast", [weight], `${name}/values`, toFloat);
  if (product.op !== "MatMulIntegerToFloat") {
    const isTransposed = readIntegerAttribute(product.attributes, "transB");
    return [
      values,
      standardNode(isTransposed ? "Transpose" : "Identity", [`${name}/values`], name),
    ];
  }
  // row-scales.ts multiplies the scale of the weights by a step of the activations.
  const ownScale = producers.get(scale!)?.inputs[0] ?? scale!;
  const shifted = zeroPoint
    ? [
        standardNode("Cast", [zeroPoint], `${name}/zero`, toFloat),
        standardNode("Sub", [`${name}/values`, `${name}/zero`], `${name}/shifted`),
      ]
    : [standardNode("Identity", [`${name}/values`], `${name}/shifted`)];
  return [values, ...shifted, standardNode("Mul", [`${name}/shifted`, ownScale], name)];
}

/** The transposed matrices, A with the scale. */
function deltaFields(name: string, { module }: Block): Uint8Array[] {
  const { rank, inputs, outputs, scale, a, b } = module;
  const [left, right] = [new Float32Array(a.length), new Float32Array(b.length)];
  for (let r = 0; r < rank; r++) {
    for (let i = 0; i < inputs; i++) left[i * rank + r] = scale * a[r * inputs + i]!;
    for (let o = 0; o < outputs; o++) right[r * outputs + o] = b[o * rank + r]!;
  }
  return [
    ...floatInitializerParts(`${name}/A`, [inputs, rank], left),
    ...floatInitializerParts(`${name}/B`, [rank, outputs], right),
  ];
}

/** The model with its weights and these fields of the graph instead of its inputs, outputs and nodes. */
function withOnlyWeights(model: Uint8Array, fields: readonly Uint8Array[]): Uint8Array {
  const kept: ReadonlySet<number> = new Set([GRAPH_PROTO.name, GRAPH_PROTO.initializer]);
  return Buffer.concat(
    Array.from(rawFields(model)).flatMap(({ field, raw, content }) => {
      if (field !== MODEL_PROTO.graph) return [raw];
      const weights = Array.from(rawFields(content)).filter((part) => kept.has(part.field));
      return inField(field, [...weights.map((part) => part.raw), ...fields]);
    }),
  );
}
