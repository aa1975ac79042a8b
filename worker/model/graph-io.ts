/**
 * What a decoder graph takes and gives. Names, types and shapes are read from the session, because exporters differ:
 * no position_ids, int32 masks, fp16 caches, keys and values of different sizes, a use_cache_branch switch.
 */
import { Tensor, type InferenceSession } from "onnxruntime-node";

type Metadata = InferenceSession.TensorValueMetadata;

export const PAST = "past_key_values.";
export const LOGITS = "logits";

/** Dimensions that a graph may leave symbolic, from the model's config.json. */
export interface CacheShape {
  readonly kvHeads: number;
  readonly headDim: number;
}

/** One `past_key_values.*` input of a graph. */
export interface PastInput {
  readonly name: string;
  /** The output that holds, after a run, the whole cache or (of a prepared graph) its new rows. */
  readonly output: string;
  readonly type: "float32" | "float16";
  /** Shape without tokens, for one sequence. */
  readonly emptyShape: readonly number[];
}

/** What a cache holds. */
export type CacheValues = Float32Array<ArrayBuffer> | Float16Array<ArrayBuffer>;

/** What is particular to a prepared graph. */
export interface PreparedIo {
  /** Cache input -> output with its new rows. */
  readonly newRows: ReadonlyMap<string, string>;
  /**
   * New rows come right behind a sequence's old ones, as GroupQueryAttention puts them: its mask is as wide as the longest
   * sequence (the operator refuses a wider one where positions end) and padded at the right. Otherwise they come behind
   * all of the cache.
   */
  readonly isRightPadded: boolean;
}

const PLAIN: PreparedIo = { newRows: new Map(), isRightPadded: false };

/** One sequence's part of a run. */
export interface Fresh {
  /** New token ids, at least one. */
  readonly ids: readonly number[];
  /** Tokens in the cache before them. */
  readonly past: number;
}

/** Integer inputs that runs know how to fill. */
const FED = new Set([
  "input_ids",
  "attention_mask",
  "position_ids",
  "token_type_ids",
  "use_cache_branch",
  "num_logits_to_keep",
]);
const INTEGER_TYPES = new Set<string>(["int64", "int32", "bool", "float32"]);

export class GraphIo {
  readonly pasts: readonly PastInput[];
  /** Width of a row of logits, or null if the graph does not say before it runs. */
  readonly logitsWidth: number | null;
  readonly #inputs: ReadonlyMap<string, Metadata>;

  readonly #isRightPadded: boolean;

  /** @throws with the reason if the graph is not a decoder that we can run */
  constructor(
    session: InferenceSession,
    cacheShape: CacheShape,
    { newRows, isRightPadded }: PreparedIo = PLAIN,
  ) {
    this.#isRightPadded = isRightPadded;
    const inputs = session.inputMetadata.filter((input) => input.isTensor);
    this.#inputs = new Map(inputs.map((input) => [input.name, input]));
    this.pasts = inputs
      .filter(({ name }) => name.startsWith(PAST))
      .map((input) => ({
        ...describeCache(input, cacheShape),
        output: newRows.get(input.name) ?? presentOf(input.name, session),
      }));
    const logits = session.outputMetadata.find(({ name }) => name === LOGITS);
    const width = logits?.isTensor ? logits.shape.at(-1) : undefined;
    this.logitsWidth = typeof width === "number" && width > 0 ? width : null;
    if (!logits) throw new Error("the graph has no output logits");
    if (!this.takes("input_ids")) throw new Error("the graph has no input input_ids");
    if (this.pasts.length === 0) {
      throw new Error(`the graph has no ${PAST}* inputs: export it with a KV cache`);
    }
    const unknown = inputs.filter(
      ({ name, type }) => !name.startsWith(PAST) && !(FED.has(name) && INTEGER_TYPES.has(type)),
    );
    if (unknown.length > 0) {
      const list = unknown.map(({ name, type }) => `${name} (${type})`).join(", ");
      throw new Error(`the graph wants inputs that are not known here: ${list}`);
    }
  }

  takes(input: string): boolean {
    return this.#inputs.has(input);
  }

  /**
   * All inputs but the cache.
   * @param rows the sequences of the run, all with the same count of new tokens
   * @param capacity tokens for which the cache's tensors have room; those from a row's `past` on are masked
   */
  feeds(rows: readonly Fresh[], capacity: number): Record<string, Tensor> {
    const batch = rows.length;
    const count = rows[0]!.ids.length;
    const feeds: Record<string, Tensor> = {};
    const feed = (name: string, shape: readonly number[], value: (i: number) => number) => {
      const input = this.#inputs.get(name);
      if (!input) return;
      // A scalar may be declared with no axis or with one.
      const dims = shape.length === 0 && input.shape.length === 1 ? [1] : shape;
      feeds[name] = integerTensor(input.type, dims, value);
    };
    /** The value at a flat index of [batch, width], from its row and its place in the row. */
    const at = (width: number, of: (row: Fresh, i: number) => number) => (i: number) =>
      of(rows[Math.floor(i / width)]!, i % width);
    const isRightPadded = this.#isRightPadded;
    const before = isRightPadded ? Math.max(...rows.map(({ past }) => past)) : capacity;
    const isSeen = ({ past }: Fresh, i: number) => {
      const isNew = isRightPadded ? i < past + count : i >= capacity;
      return i < past || isNew ? 1 : 0;
    };
    feed(
      "input_ids",
      [batch, count],
      at(count, ({ ids }, i) => ids[i]!),
    );
    feed("attention_mask", [batch, before + count], at(before + count, isSeen));
    feed(
      "position_ids",
      [batch, count],
      at(count, ({ past }, i) => past + i),
    );
    feed("token_type_ids", [batch, count], () => 0);
    feed("use_cache_branch", [1], () => (capacity > 0 ? 1 : 0));
    feed("num_logits_to_keep", [], () => count);
    return feeds;
  }
}

/** Bytes of one token in all caches of one sequence. */
export function bytesPerToken(pasts: readonly PastInput[]): number {
  const size = ({ type, emptyShape }: PastInput) =>
    emptyShape.reduce((product, axis) => product * (axis || 1), type === "float16" ? 2 : 4);
  return pasts.reduce((sum, past) => sum + size(past), 0);
}

/**
 * A cache input over the caller's memory. onnxruntime-node counts no bytes in a Float16Array
 * (https://github.com/microsoft/onnxruntime/pull/32323) and a float16 Tensor turns everything else into one, so it is
 * shown the same memory as 16-bit integers.
 */
export function cacheTensor(data: CacheValues, shape: readonly number[]): Tensor {
  if (data instanceof Float32Array) return new Tensor("float32", data, shape);
  const bits = new Uint16Array(data.buffer, data.byteOffset, data.length);
  return Object.defineProperty(new Tensor("float16", bits, shape), "data", { value: bits });
}

/** Every sequence's or position's logits, from [B, 1, width] or [1, T, width]. */
export function logitsRows(logits: Tensor): Float32Array[] {
  const [batch, positions] = logits.dims as [number, number, number];
  return Array.from({ length: batch * positions }, (_, row) => logitsRow(logits, row));
}

/** One row of logits as float32, from [B, 1, width] or [1, T, width] in float32 or float16. */
export function logitsRow(logits: Tensor, row: number): Float32Array {
  const width = logits.dims.at(-1)!;
  const [start, end] = [row * width, (row + 1) * width];
  const { data } = logits;
  if (data instanceof Float32Array) return data.subarray(start, end);
  if (data instanceof Float16Array) return Float32Array.from(data.subarray(start, end));
  throw new Error(`logits of type ${logits.type} are not supported`);
}

function presentOf(name: string, session: InferenceSession): string {
  const suffix = name.slice(PAST.length);
  const present = [`present.${suffix}`, `present_key_values.${suffix}`].find((candidate) =>
    session.outputNames.includes(candidate),
  );
  if (!present) throw new Error(`the graph has input ${name} but no output present.${suffix}`);
  return present;
}

function describeCache(input: Metadata, cacheShape: CacheShape): Omit<PastInput, "output"> {
  const { name, type } = input;
  if (type !== "float32" && type !== "float16") {
    throw new Error(`a cache of ${type} (${name}) is not supported`);
  }
  return { name, type, emptyShape: emptyShape(input, cacheShape) };
}

/**
 * Shape of a cache without tokens, for one sequence: fixed axes as declared, the batch axis 1, the token axis 0,
 * and what else is symbolic from config.json.
 */
function emptyShape({ name, shape }: Metadata, { kvHeads, headDim }: CacheShape): number[] {
  const isFixed = (axis: number | string) => typeof axis === "number" && axis > 0;
  const open = shape.flatMap((axis, i) => (isFixed(axis) ? [] : [i]));
  if (open.length === 2) {
    return shape.map((axis, i) => (i === open[0] ? 1 : i === open[1] ? 0 : (axis as number)));
  }
  if (shape.length === 4) return [1, kvHeads, 0, headDim];
  throw new Error(`cannot tell the shape of ${name} from [${shape.join(", ")}]`);
}

function integerTensor(
  type: Tensor.Type,
  shape: readonly number[],
  value: (i: number) => number,
): Tensor {
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
  return new Tensor(type as "int32", data as Int32Array, shape);
}
