/**
 * One ONNX decoder with a KV cache in the Hugging Face signature, and the only importer of onnxruntime's session.
 * Names, types and shapes of inputs and outputs are read from the session: exporters differ
 * (no position_ids, int32 masks, fp16 caches, a use_cache_branch switch).
 */
import { InferenceSession, Tensor } from "onnxruntime-node";
import { Sequence } from "./sequence.ts";

type Metadata = InferenceSession.TensorValueMetadata;
type IntegerType = "int64" | "int32" | "bool" | "float32";

export interface DecoderOptions {
  /** Threads inside one operator; 0 lets onnxruntime choose. */
  readonly intraOpThreads: number;
}

/** Dimensions that a graph may leave symbolic, from the model's config.json. */
export interface CacheShape {
  readonly kvHeads: number;
  readonly headDim: number;
}

export class Decoder {
  readonly #session: InferenceSession;
  readonly #inputs: ReadonlyMap<string, Metadata>;
  readonly #pastShapes: ReadonlyMap<string, number[]>;
  readonly #presentNames: ReadonlyMap<string, string>;

  private constructor(session: InferenceSession, cacheShape: CacheShape) {
    this.#session = session;
    const inputs = session.inputMetadata.filter((input) => input.isTensor);
    this.#inputs = new Map(inputs.map((input) => [input.name, input]));
    const pasts = inputs.filter((input) => input.name.startsWith(PAST));
    this.#pastShapes = new Map(pasts.map((past) => [past.name, emptyShape(past, cacheShape)]));
    this.#presentNames = new Map(pasts.map((past) => [past.name, presentName(past.name, session)]));
    this.#check();
  }

  /** Loads a graph; throws with the reason if it is not a decoder that we can run. */
  static async load(
    file: string,
    cacheShape: CacheShape,
    { intraOpThreads }: DecoderOptions,
  ): Promise<Decoder> {
    const session = await InferenceSession.create(file, {
      ...(intraOpThreads > 0 && { intraOpNumThreads: intraOpThreads }),
      logSeverityLevel: 3,
      // Each session has its own pool, whose threads spin after a run and starve the other two models:
      // 55.5 ms a token without this line, 23.0 with it (98M base, 10M experts, two cores).
      extra: { session: { force_spinning_stop: "1" } },
    });
    return new Decoder(session, cacheShape);
  }

  /** Width of a row of logits, or null if the graph does not say before it runs. */
  get logitsWidth(): number | null {
    const logits = this.#session.outputMetadata.find((output) => output.name === LOGITS);
    const width = logits?.isTensor ? logits.shape.at(-1) : undefined;
    return typeof width === "number" && width > 0 ? width : null;
  }

  /** Starts a sequence with an empty cache. */
  open(): Sequence {
    return new Sequence(this);
  }

  emptyPast(): Record<string, Tensor> {
    const past: Record<string, Tensor> = {};
    for (const [name, shape] of this.#pastShapes) {
      past[name] = emptyTensor(this.#inputs.get(name)!.type, shape);
    }
    return past;
  }

  /**
   * @param ids new token ids, at least one
   * @param pastLength tokens in `past`
   * @returns logits [width] of the last id, and the cache with the new tokens, by input name
   */
  async run(
    ids: readonly number[],
    pastLength: number,
    past: Record<string, Tensor>,
  ): Promise<{ logits: Float32Array; present: Record<string, Tensor> }> {
    const feeds: Record<string, Tensor> = { ...past };
    const total = pastLength + ids.length;
    this.#feed(feeds, "input_ids", [1, ids.length], (i) => ids[i]!);
    this.#feed(feeds, "attention_mask", [1, total], () => 1);
    this.#feed(feeds, "position_ids", [1, ids.length], (i) => pastLength + i);
    this.#feed(feeds, "token_type_ids", [1, ids.length], () => 0);
    this.#feed(feeds, "use_cache_branch", [1], () => (pastLength > 0 ? 1 : 0));
    this.#feed(feeds, "num_logits_to_keep", [], () => 1);
    this.#feed(feeds, "cache_position", [ids.length], (i) => pastLength + i);
    const results = await this.#session.run(feeds);
    const present: Record<string, Tensor> = {};
    for (const [name, output] of this.#presentNames) present[name] = results[output] as Tensor;
    return { logits: lastRow(results[LOGITS] as Tensor), present };
  }

  /** Adds an input of integers if the graph has it, in the type that the graph wants. */
  #feed(
    feeds: Record<string, Tensor>,
    name: string,
    shape: number[],
    value: (i: number) => number,
  ): void {
    const input = this.#inputs.get(name);
    if (!input) return;
    // A scalar input may be declared with no axis or with one.
    const dims = shape.length === 0 && input.shape.length === 1 ? [1] : shape;
    feeds[name] = integerTensor(input.type as IntegerType, dims, value);
  }

  #check(): void {
    const unknown = [...this.#inputs.values()].filter(
      ({ name, type }) =>
        !name.startsWith(PAST) && !(FED.has(name) && INTEGER_TYPES.has(type as IntegerType)),
    );
    if (!this.#inputs.has("input_ids")) throw new Error("the graph has no input input_ids");
    if (this.#pastShapes.size === 0) {
      throw new Error(`the graph has no ${PAST}* inputs: export it with a KV cache`);
    }
    if (!this.#session.outputNames.includes(LOGITS))
      throw new Error("the graph has no output logits");
    if (unknown.length > 0) {
      const list = unknown.map(({ name, type }) => `${name} (${type})`).join(", ");
      throw new Error(`the graph wants inputs that are not known here: ${list}`);
    }
  }
}

const PAST = "past_key_values.";
const LOGITS = "logits";
const FED = new Set([
  "input_ids",
  "attention_mask",
  "position_ids",
  "token_type_ids",
  "use_cache_branch",
  "num_logits_to_keep",
  "cache_position",
]);
const INTEGER_TYPES = new Set<IntegerType>(["int64", "int32", "bool", "float32"]);

function presentName(past: string, session: InferenceSession): string {
  const suffix = past.slice(PAST.length);
  const name = [`present.${suffix}`, `present_key_values.${suffix}`].find((candidate) =>
    session.outputNames.includes(candidate),
  );
  if (!name) throw new Error(`the graph has input ${past} but no output present.${suffix}`);
  return name;
}

/**
 * Shape of a cache without tokens, for one sequence: fixed axes as declared, the batch axis 1, the token axis 0,
 * and what else is symbolic from config.json.
 */
function emptyShape({ name, shape }: Metadata, { kvHeads, headDim }: CacheShape): number[] {
  const symbols = shape.map((axis, i) => (typeof axis === "number" && axis > 0 ? null : i));
  const open = symbols.filter((i) => i !== null);
  if (open.length === 2) {
    return shape.map((axis, i) => (i === open[0] ? 1 : i === open[1] ? 0 : (axis as number)));
  }
  if (shape.length === 4) return [1, kvHeads, 0, headDim];
  throw new Error(`cannot tell the shape of ${name} from [${shape.join(", ")}]`);
}

function emptyTensor(type: Tensor.Type, shape: number[]): Tensor {
  if (type === "float16") return new Tensor("float16", new Uint16Array(0), shape);
  if (type === "float32") return new Tensor("float32", new Float32Array(0), shape);
  throw new Error(`a cache of ${type} is not supported`);
}

function integerTensor(type: IntegerType, shape: number[], value: (i: number) => number): Tensor {
  const size = shape.reduce((product, axis) => product * axis, 1);
  if (type === "int64") {
    const data = new BigInt64Array(size);
    for (let i = 0; i < size; i++) data[i] = BigInt(value(i));
    return new Tensor(type, data, shape);
  }
  const data =
    type === "int32"
      ? new Int32Array(size)
      : type === "bool"
        ? new Uint8Array(size)
        : new Float32Array(size);
  for (let i = 0; i < size; i++) data[i] = value(i);
  return new Tensor(type, data, shape);
}

/** The last position's logits as float32, from [1, T, width] in float32 or float16. */
function lastRow(logits: Tensor): Float32Array {
  const width = logits.dims.at(-1)!;
  const { data } = logits;
  if (data instanceof Float32Array) return data.subarray(data.length - width);
  if (data instanceof Float16Array) return Float32Array.from(data.subarray(data.length - width));
  if (data instanceof Uint16Array) {
    const row = data.slice(data.length - width);
    return Float32Array.from(new Float16Array(row.buffer));
  }
  throw new Error(`logits of type ${logits.type} are not supported`);
}
