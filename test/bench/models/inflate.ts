/**
 * Makes a large model that computes what a small one computes. Width grows by zero padding (RMSNorm's mean is taken over
 * more entries, so its weights shrink by the square root), heads and MLPs get members whose way out is zero, and added
 * layers write nothing into the residual stream. Every added weight is multiplied like any other: behaviour and
 * acceptance stay the demo family's, the cost is a large model's. The layers are copies of the small graph's own, so what
 * its exporter makes of attention stays as it is.
 */
import { constantNode, constantValue, type Graph, type Node, type Value } from "./onnx.ts";

/** A Llama-style decoder's dimensions, all heads with keys and values of their own. */
export interface Shape {
  readonly layers: number;
  readonly width: number;
  readonly heads: number;
  readonly headSize: number;
  readonly mlpWidth: number;
}

/** Added weights that take part in the arithmetic are this large: below the trained ones, so int8 scales stay theirs. */
const NOISE = 0.01;
const MATRICES = ["q", "k", "v", "o", "gate", "up", "down"] as const;
type Matrix = (typeof MATRICES)[number];

export function inflate(graph: Graph, from: Shape, to: Shape): Graph {
  const { before, layers, after } = split(graph, from.layers);
  const weights = new Map<string, Value>();
  const resized = (nodes: readonly Node[]) => nodes.map((node) => resize(node, from, to));
  const widen = new Widening(from, to);
  for (const name of ["model.embed_tokens.weight", "model.norm.weight"]) {
    const value = graph.weights.get(name)!;
    weights.set(name, value.dims.length === 1 ? widen.norm(value) : widen.rows(value));
  }
  const nodes = [...resized(before)];
  let residual = outputOf(before);
  /** What later layers use of the first one (rotary angles) is in its first copy. */
  const shared = new Map<string, string>();
  for (let at = 0; at < to.layers; at++) {
    // The trained layers are spread over the depth; the others copy the first one's nodes.
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
  readonly nodes: readonly Node[];
  /** The residual stream before it; its last node writes the stream after it. */
  readonly input: string;
}

const outputOf = (nodes: readonly Node[]) => nodes.at(-1)!.outputs[0]!;

/** Cuts the node list where the residual stream passes from layer to layer: exporters write the layers in order. */
function split(
  { nodes }: Graph,
  layers: number,
): { before: Node[]; layers: Layer[]; after: Node[] } {
  const producer = new Map(nodes.flatMap(({ outputs }, i) => outputs.map((name) => [name, i])));
  const norms = Array.from(
    { length: layers },
    (_, i) => `model.layers.${i}.input_layernorm.weight`,
  );
  const ends = [...norms, "model.norm.weight"].map((norm) => {
    let at = nodes.findIndex(({ inputs }) => inputs.includes(norm));
    // The square that a norm begins with takes the residual stream itself.
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

/** Which initializer plays which part in a layer, by the order in which they are used. */
function weightNames(nodes: readonly Node[], weights: Graph["weights"]): Map<string, string> {
  const used = (op: string) =>
    nodes
      .filter((node) => node.op === op)
      .flatMap(({ inputs }) => inputs.filter((name) => weights.has(name)));
  const [norms, matrices] = [used("Mul"), used("MatMul")];
  if (norms.length !== 2 || matrices.length !== MATRICES.length) {
    throw new Error(
      `a layer with ${norms.length} norms and ${matrices.length} matrices is no Llama's`,
    );
  }
  return new Map([
    ["input_norm", norms[0]!],
    ["mlp_norm", norms[1]!],
    ...MATRICES.map((role, i) => [role, matrices[i]!] as const),
  ]);
}

/** Constants that depend on the dimensions: the head size, rotary frequencies, the norms' epsilon. */
function resize(node: Node, from: Shape, to: Shape): Node {
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

/** Radians per position by which pairs of a head's entries turn: the trained ones first. */
export function rotaryFrequencies(from: Shape, to: Shape): Float32Array {
  return Float32Array.from({ length: to.headSize / 2 }, (_, i) =>
    i < from.headSize / 2 ? 1e4 ** ((-2 * i) / from.headSize) : 1e4 ** ((-2 * i) / to.headSize),
  );
}

/** Puts small weights into large ones. Matrices are [in, out]. */
class Widening {
  readonly #from: Shape;
  readonly #to: Shape;
  #state = 1;

  constructor(from: Shape, to: Shape) {
    this.#from = from;
    this.#to = to;
  }

  norm({ data }: Value): Value {
    const { width } = this.#to;
    const shrink = Math.sqrt(this.#from.width / width);
    const wide = Float32Array.from({ length: width }, (_, i) => Number(data[i] ?? 1) * shrink);
    return { dims: [width], data: wide };
  }

  /** [n, width], the added columns zero. */
  rows({ dims, data }: Value): Value {
    const [count, small] = dims as [number, number];
    const { width } = this.#to;
    const wide = new Float32Array(count * width);
    for (let row = 0; row < count; row++) {
      wide.set((data as Float32Array).subarray(row * small, (row + 1) * small), row * width);
    }
    return { dims: [count, width], data: wide };
  }

  /** @param trained null for a layer that shall do nothing */
  matrix(role: Matrix, trained: Value | null): Value {
    const { width, heads, headSize, mlpWidth } = this.#to;
    const inner = ["q", "k", "v", "o"].includes(role) ? heads * headSize : mlpWidth;
    const writesBack = role === "o" || role === "down";
    const [rows, columns] = writesBack ? [inner, width] : [width, inner];
    const wide = new Float32Array(rows * columns);
    if (!writesBack) this.#fillNoise(wide);
    if (trained) this.#place(role, trained, wide, columns);
    return { dims: [rows, columns], data: wide };
  }

  #place(role: Matrix, trained: Value, wide: Float32Array, columns: number): void {
    const [smallRows, smallColumns] = trained.dims as [number, number];
    const isHead = (axis: 0 | 1) => (axis === 0 ? role === "o" : ["q", "k", "v"].includes(role));
    if (isHead(1)) this.#clearTrainedHeads(wide, columns);
    for (let row = 0; row < smallRows; row++) {
      const at = (isHead(0) ? this.#headEntry(row) : row) * columns;
      for (let column = 0; column < smallColumns; column++) {
        const target = at + (isHead(1) ? this.#headEntry(column) : column);
        wide[target] = Number(trained.data[row * smallColumns + column]);
      }
    }
  }

  /** Entries that a trained head gained must not add to its scores. */
  #clearTrainedHeads(wide: Float32Array, columns: number): void {
    const gained = this.#from.heads * this.#to.headSize;
    for (let row = 0; row < wide.length; row += columns) wide.fill(0, row, row + gained);
  }

  /** Rotary embeddings turn entry i with entry i + half, so each half stays at the front of its half. */
  #headEntry(i: number): number {
    const [small, large] = [this.#from.headSize, this.#to.headSize];
    const [head, at] = [Math.floor(i / small), i % small];
    const upper = at >= small / 2;
    return head * large + (upper ? large / 2 + at - small / 2 : at);
  }

  /** Marsaglia's xorshift32: the same files on every machine. */
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
