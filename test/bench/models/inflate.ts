/**
 * Makes a large model with the same logits as a small one. The width grows by zero padding (RMSNorm takes the mean over more
 * entries, so its weights are divided by the square root), added heads and MLP units have zero output weights, and added
 * layers write nothing into the residual stream. Every added weight is multiplied like any other. So the output and the
 * acceptance of drafts are the demo family's, and the cost is a large model's. Layers are copies of the small graph's layers,
 * so attention has the form that the exporter gave it.
 */
import type { GraphNode } from "../../../worker/engine/graph/nodes.ts";
import { constantNode, constantValue, type Graph, type Tensor } from "./onnx.ts";

/** Dimensions of a Llama-style decoder in which every head has its own keys and values. */
export interface ModelShape {
  readonly layers: number;
  readonly width: number;
  readonly heads: number;
  readonly headSize: number;
  readonly mlpWidth: number;
}

/** Magnitude of added weights that are not zero: below the trained weights, so that these still determine int8 scales. */
const NOISE = 0.01;
const MATRICES = ["q", "k", "v", "o", "gate", "up", "down"] as const;
type Matrix = (typeof MATRICES)[number];

/**
 * @param from dimensions of `graph`
 * @param to larger dimensions
 */
export function inflate(graph: Graph, from: ModelShape, to: ModelShape): Graph {
  const { before, layers, after } = split(graph, from.layers);
  const weights = new Map<string, Tensor>();
  const resized = (nodes: readonly GraphNode[]) => nodes.map((node) => resize(node, from, to));
  const widen = new Widening(from, to);
  for (const name of ["model.embed_tokens.weight", "model.norm.weight"]) {
    const value = graph.weights.get(name)!;
    weights.set(name, value.dims.length === 1 ? widen.norm(value) : widen.rows(value));
  }
  const nodes = [...resized(before)];
  let residual = outputOf(before);
  /** Values of the first layer that later layers use (rotary angles) -> their name in its first copy. */
  const shared = new Map<string, string>();
  for (let at = 0; at < to.layers; at++) {
    // The trained layers are distributed over the depth. The other layers have the nodes of the first one.
    const trained = Math.floor(((at + 1) * from.layers) / to.layers) - 1;
    const isTrained = Math.floor((at * from.layers) / to.layers) - 1 !== trained;
    const template = layers[isTrained ? trained : 0]!;
    const names = weightNames(template.nodes, graph.weights);
    for (const [role, name] of names) {
      const value = graph.weights.get(name)!;
      weights.set(
        `layer.${at}.${role}`,
        role.endsWith("norm")
          ? widen.norm(value)
          : widen.matrix(role as Matrix, isTrained ? value : null),
      );
    }
    const roles = new Map([...names].map(([role, name]) => [name, `layer.${at}.${role}`]));
    const own = new Set(template.nodes.flatMap(({ outputs }) => outputs));
    const rename = (name: string): string => {
      if (name === template.input) return residual;
      if (/^(past_key_values|present)\.\d+\./.test(name)) return name.replace(/\.\d+\./, `.${at}.`);
      if (own.has(name)) return `layer.${at}.${name}`;
      return roles.get(name) ?? shared.get(name) ?? name;
    };
    for (const name of own) if (!shared.has(name)) shared.set(name, rename(name));
    const copies = resized(template.nodes).map((node) => ({
      ...node,
      inputs: node.inputs.map(rename),
      outputs: node.outputs.map(rename),
    }));
    nodes.push(...copies);
    residual = outputOf(copies);
  }
  const last = layers.at(-1)!.nodes;
  const tail = resized(after).map((node) => ({
    ...node,
    inputs: node.inputs.map((name) => (name === outputOf(last) ? residual : name)),
  }));
  return { nodes: [...nodes, ...tail], weights };
}

interface Layer {
  readonly nodes: readonly GraphNode[];
  /** The residual stream before the layer. The layer's last node writes the stream after it. */
  readonly input: string;
}

const outputOf = (nodes: readonly GraphNode[]) => nodes.at(-1)!.outputs[0]!;

/** Splits the nodes into layers at the residual stream. Exporters write the layers in order. */
function split(
  { nodes }: Graph,
  layers: number,
): { before: GraphNode[]; layers: Layer[]; after: GraphNode[] } {
  const producer = new Map(nodes.flatMap(({ outputs }, i) => outputs.map((name) => [name, i])));
  const norms = Array.from(
    { length: layers },
    (_, i) => `model.layers.${i}.input_layernorm.weight`,
  );
  const ends = [...norms, "model.norm.weight"].map((norm) => {
    let at = nodes.findIndex(({ inputs }) => inputs.includes(norm));
    // A norm starts with Pow, whose input is the residual stream.
    while (nodes[at]!.op !== "Pow") at--;
    return producer.get(nodes[at]!.inputs[0]!)! + 1;
  });
  return {
    before: nodes.slice(0, ends[0]),
    layers: norms.map((_, i) => ({
      nodes: nodes.slice(ends[i], ends[i + 1]),
      input: nodes[ends[i]! - 1]!.outputs[0]!,
    })),
    after: nodes.slice(ends.at(-1)),
  };
}

/** Role of each weight in a layer -> its name. Roles follow from the order of use. */
function weightNames(nodes: readonly GraphNode[], weights: Graph["weights"]): Map<string, string> {
  const used = (op: string) =>
    nodes
      .filter((node) => node.op === op)
      .flatMap(({ inputs }) => inputs.filter((name) => weights.has(name)));
  const [norms, matrices] = [used("Mul"), used("MatMul")];
  if (norms.length !== 2 || matrices.length !== MATRICES.length) {
    throw new Error(
      `A Llama layer has 2 norms and ${MATRICES.length} matrices, this one ${norms.length} and ${matrices.length}`,
    );
  }
  return new Map([
    ["input_norm", norms[0]!],
    ["mlp_norm", norms[1]!],
    ...MATRICES.map((role, i) => [role, matrices[i]!] as const),
  ]);
}

/** Adapts constants that depend on the dimensions: head size, rotary frequencies, epsilon of the norms. */
function resize(node: GraphNode, from: ModelShape, to: ModelShape): GraphNode {
  const value = constantValue(node);
  if (!value) return node;
  const [output] = node.outputs as [string];
  const { dims, data } = value;
  if (data instanceof BigInt64Array) {
    if (data.length !== 1 || data[0] !== BigInt(from.headSize)) return node;
    return constantNode(output, { dims, data: BigInt64Array.of(BigInt(to.headSize)) });
  }
  if (dims.length === 3 && dims[1] === from.headSize / 2) {
    const wide = rotaryFrequencies(from, to);
    return constantNode(output, { dims: [1, wide.length, 1], data: wide });
  }
  if (data.length === 1 && Math.abs((data[0] as number) - 1e-6) < 1e-9) {
    const scaled = Float32Array.of(((data[0] as number) * from.width) / to.width);
    return constantNode(output, { dims, data: scaled });
  }
  return node;
}

/** Rotary frequencies in radians per position, [head size / 2]: the trained ones first. */
export function rotaryFrequencies(from: ModelShape, to: ModelShape): Float32Array {
  return Float32Array.from({ length: to.headSize / 2 }, (_, i) =>
    i < from.headSize / 2 ? 1e4 ** ((-2 * i) / from.headSize) : 1e4 ** ((-2 * i) / to.headSize),
  );
}

/** Places the weights of the small model in larger ones. Matrices are [in, out]. */
class Widening {
  readonly #from: ModelShape;
  readonly #to: ModelShape;
  #state = 1;

  constructor(from: ModelShape, to: ModelShape) {
    this.#from = from;
    this.#to = to;
  }

  norm({ data }: Tensor): Tensor {
    const { width } = this.#to;
    const shrink = Math.sqrt(this.#from.width / width);
    const wide = Float32Array.from({ length: width }, (_, i) => Number(data[i] ?? 1) * shrink);
    return { dims: [width], data: wide };
  }

  /** [n, width]; added columns are zero. */
  rows({ dims, data }: Tensor): Tensor {
    const [count, small] = dims as [number, number];
    const { width } = this.#to;
    const wide = new Float32Array(count * width);
    for (let row = 0; row < count; row++) {
      wide.set((data as Float32Array).subarray(row * small, (row + 1) * small), row * width);
    }
    return { dims: [count, width], data: wide };
  }

  /** @param trained null for an added layer, which must not change the residual stream */
  matrix(role: Matrix, trained: Tensor | null): Tensor {
    const { width, heads, headSize, mlpWidth } = this.#to;
    const inner = ["q", "k", "v", "o"].includes(role) ? heads * headSize : mlpWidth;
    const writesBack = role === "o" || role === "down";
    const [rows, columns] = writesBack ? [inner, width] : [width, inner];
    const wide = new Float32Array(rows * columns);
    if (!writesBack) this.#fillNoise(wide);
    if (trained) this.#place(role, trained, wide, columns);
    return { dims: [rows, columns], data: wide };
  }

  #place(role: Matrix, trained: Tensor, wide: Float32Array, columns: number): void {
    const [smallRows, smallColumns] = trained.dims as [number, number];
    const isHeadAxis = (axis: 0 | 1) =>
      axis === 0 ? role === "o" : ["q", "k", "v"].includes(role);
    if (isHeadAxis(1)) this.#clearTrainedHeads(wide, columns);
    for (let row = 0; row < smallRows; row++) {
      const at = (isHeadAxis(0) ? this.#headEntry(row) : row) * columns;
      for (let column = 0; column < smallColumns; column++) {
        const target = at + (isHeadAxis(1) ? this.#headEntry(column) : column);
        wide[target] = Number(trained.data[row * smallColumns + column]);
      }
    }
  }

  /** Sets the added entries of trained heads to zero, so that they do not change the attention scores. */
  #clearTrainedHeads(wide: Float32Array, columns: number): void {
    const gained = this.#from.heads * this.#to.headSize;
    for (let row = 0; row < wide.length; row += columns) wide.fill(0, row, row + gained);
  }

  /** New index of a head's entry. Rotary embeddings pair entry i with entry i + half, so each half is placed at the start of the new half. */
  #headEntry(i: number): number {
    const [small, large] = [this.#from.headSize, this.#to.headSize];
    const [head, at] = [Math.floor(i / small), i % small];
    const upper = at >= small / 2;
    return head * large + (upper ? large / 2 + at - small / 2 : at);
  }

  /** Marsaglia's xorshift32, so that the files are the same on every machine. */
  #fillNoise(values: Float32Array): void {
    let state = this.#state;
    for (let i = 0; i < values.length; i++) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      values[i] = (state / 2 ** 31) * NOISE;
    }
    this.#state = state;
  }
}
