/**
 * Inputs and outputs of a decoder graph. Names, types and shapes are read from the session, because exporters differ:
 * no position_ids, int32 masks, fp16 caches, keys and values of different sizes, a use_cache_branch switch.
 */
import { Tensor, type InferenceSession } from "../onnxruntime/onnxruntime.ts";

type Metadata = InferenceSession.TensorValueMetadata;

export const PAST = "past_key_values.";
export const LOGITS = "logits";
/** Input of some exports: logits are computed of so many of the last new tokens. */
export const LOGITS_COUNT = "num_logits_to_keep";
/** Input of prepared graphs: logits are computed of the new tokens from this one on (../graph/wanted-logits.ts). */
export const LOGITS_START = "logits_start";
/** Input of a graph with adapters (../graph/adapter-branches.ts), [batch, 1, adapters]: 1 for the row's adapter, else 0. */
export const ADAPTERS = "adapters";

/** Dimensions from the model's config.json, for graphs that leave them symbolic. */
export interface CacheShape {
  readonly kvHeads: number;
  readonly headDim: number;
}

/** One `past_key_values.*` input of a graph. */
export interface PastInput {
  readonly name: string;
  /** Output with the whole cache after a run, or (of a prepared graph) with the new tokens' part of it. */
  readonly output: string;
  readonly type: "float32" | "float16";
  /** Shape for one sequence without tokens: the axis of the tokens is 0. */
  readonly emptyShape: readonly number[];
}

/** Whether a cache input is [batch, heads, tokens, head size]. */
export function hasStandardLayout({ emptyShape }: PastInput): boolean {
  return emptyShape.length === 4 && emptyShape.indexOf(0) === 2;
}

/** Keys or values in a cache. */
export type CacheValues = Float32Array | Float16Array;

/** Differences between the KV cache of a prepared graph and that of the exported graph. */
export interface PreparedLayout {
  /** `past_key_values.*` input -> output with the new tokens' keys or values. */
  readonly newKvOutputs: ReadonlyMap<string, string>;
  /**
   * Where the tokens of a sequence are in its rows of the cache. `start`: new keys and values follow the old ones directly,
   * as GroupQueryAttention places them. The mask is then as wide as the longest sequence (the operator refuses a mask wider
   * than the model's positions) and padded at the right. `gap`: new keys and values follow the whole token capacity, and the unused
   * entries before them are masked. `end`: the same, but the old tokens end where the new ones begin, and the mask is padded at
   * the left; for graphs that count entries.
   */
  readonly alignment: Alignment;
}

export type Alignment = "start" | "gap" | "end";

const EXPORTED_LAYOUT: PreparedLayout = { newKvOutputs: new Map(), alignment: "end" };

/** One row of a run's batch: the new tokens of one sequence. */
export interface RunRow {
  /** New token ids, at least one. */
  readonly ids: readonly number[];
  /** Tokens of the sequence that are in the cache already. */
  readonly pastTokens: number;
  /** Index of the adapter that changes the row's weights; absent for none. */
  readonly adapter?: number | undefined;
}

/** The inputs that `feeds` can fill, besides the cache. */
export const SUPPORTED_INPUTS = new Set([
  "input_ids",
  "attention_mask",
  "position_ids",
  "token_type_ids",
  "use_cache_branch",
  LOGITS_COUNT,
  LOGITS_START,
]);
const SUPPORTED_TYPES = new Set<string>(["int64", "int32", "bool", "float32"]);

/** The parts of a session that say how its graph is fed. */
export type SessionMetadata = Pick<
  InferenceSession,
  "inputMetadata" | "outputMetadata" | "outputNames"
>;

export class GraphIo {
  readonly pastInputs: readonly PastInput[];
  readonly alignment: Alignment;
  /** Number of logits for each token; null if the graph does not declare it. */
  readonly logitsWidth: number | null;
  readonly #inputs: ReadonlyMap<string, Metadata>;
  readonly #cacheShape: CacheShape;
  readonly #layout: PreparedLayout;

  /** @throws Error with the reason if the graph is not a decoder with a KV cache and known inputs */
  constructor(
    session: SessionMetadata,
    cacheShape: CacheShape,
    layout: PreparedLayout = EXPORTED_LAYOUT,
  ) {
    const { newKvOutputs, alignment } = layout;
    this.alignment = alignment;
    this.#cacheShape = cacheShape;
    this.#layout = layout;
    const inputs = session.inputMetadata.filter((input) => input.isTensor);
    this.#inputs = new Map(inputs.map((input) => [input.name, input]));
    this.pastInputs = inputs
      .filter(({ name }) => name.startsWith(PAST))
      .map((input) => ({
        ...describeCache(input, cacheShape),
        output: newKvOutputs.get(input.name) ?? presentOutputName(input.name, session),
      }));
    const logits = session.outputMetadata.find(({ name }) => name === LOGITS);
    const width = logits?.isTensor ? logits.shape.at(-1) : undefined;
    this.logitsWidth = typeof width === "number" && width > 0 ? width : null;
    if (!logits) throw new Error("The graph has no output logits");
    if (!this.hasInput("input_ids")) throw new Error("The graph has no input input_ids");
    if (this.pastInputs.length === 0) {
      throw new Error(`The graph has no ${PAST}* inputs: export it with a KV cache`);
    }
    const unknown = inputs.filter(
      ({ name, type }) =>
        !name.startsWith(PAST) &&
        name !== ADAPTERS &&
        !(SUPPORTED_INPUTS.has(name) && SUPPORTED_TYPES.has(type)),
    );
    if (unknown.length > 0) {
      const list = unknown.map(({ name, type }) => `${name} (${type})`).join(", ");
      throw new Error(`The graph has inputs that are not supported: ${list}`);
    }
  }

  /** The same for a session of this graph with other adapters. */
  withSession(session: SessionMetadata): GraphIo {
    return new GraphIo(session, this.#cacheShape, this.#layout);
  }

  hasInput(input: string): boolean {
    return this.#inputs.has(input);
  }

  /** Whether a run can compute the logits of its last tokens only. */
  get limitsLogits(): boolean {
    return this.hasInput(LOGITS_COUNT) || this.hasInput(LOGITS_START);
  }

  /**
   * All inputs except the cache.
   * @param rows the batch; all rows have the same number of new tokens
   * @param tokenCapacity tokens for which the cache tensors have room; all but a row's `pastTokens` are masked
   * @param logitsCount of how many of the last new tokens the logits are used, 1 at least; where the graph cannot compute so few
   * (`limitsLogits`), it computes all
   */
  feeds(
    rows: readonly RunRow[],
    tokenCapacity: number,
    logitsCount = rows[0]!.ids.length,
  ): Record<string, Tensor> {
    const batch = rows.length;
    const count = rows[0]!.ids.length;
    const feeds: Record<string, Tensor> = {};
    const feed = (name: string, shape: readonly number[], value: (i: number) => number) => {
      const input = this.#inputs.get(name);
      if (!input) return;
      // Some exporters declare a scalar without an axis, others with one axis.
      const dims = shape.length === 0 && input.shape.length === 1 ? [1] : shape;
      feeds[name] = integerTensor(input.type, dims, value);
    };
    /** The value at flat index i of [batch, width], from the row and the column. */
    const perRow = (width: number, value: (row: RunRow, column: number) => number) => (i: number) =>
      value(rows[Math.floor(i / width)]!, i % width);
    feed(
      "input_ids",
      [batch, count],
      perRow(count, ({ ids }, i) => ids[i]!),
    );
    feed(
      "position_ids",
      [batch, count],
      perRow(count, ({ pastTokens }, i) => pastTokens + i),
    );
    feed("token_type_ids", [batch, count], () => 0);
    feed("use_cache_branch", [1], () => (tokenCapacity > 0 ? 1 : 0));
    const mask = this.#inputs.get("attention_mask");
    if (mask) feeds["attention_mask"] = this.#mask(mask.type, rows, tokenCapacity);
    feed(LOGITS_COUNT, [], () => logitsCount);
    feed(LOGITS_START, [1], () => count - logitsCount);
    const adapters = Number(this.#inputs.get(ADAPTERS)?.shape[2] ?? 0);
    feed(ADAPTERS, [batch, 1, adapters], (i) =>
      rows[Math.floor(i / adapters)]!.adapter === i % adapters ? 1 : 0,
    );
    return feeds;
  }

  /** 1 for the tokens of each row. Ranges are filled at once: a context may have more than 100,000 entries. */
  #mask(type: Tensor.Type, rows: readonly RunRow[], tokenCapacity: number): Tensor {
    const count = rows[0]!.ids.length;
    const isAtStart = this.alignment === "start";
    const longest = Math.max(...rows.map(({ pastTokens }) => pastTokens));
    const pastWidth = isAtStart ? longest : tokenCapacity;
    const width = pastWidth + count;
    const data = integerArray(type, rows.length * width);
    const [zero, one] = data instanceof BigInt64Array ? [0n, 1n] : [0, 1];
    for (const [row, { pastTokens }] of rows.entries()) {
      const begin = this.alignment === "end" ? pastWidth - pastTokens : 0;
      const end = isAtStart ? pastTokens + count : width;
      const start = row * width;
      data.fill(one as never, start + begin, start + end);
      if (this.alignment === "gap") {
        data.fill(zero as never, start + pastTokens, start + pastWidth);
      }
    }
    return new Tensor(type as "int32", data as Int32Array, [rows.length, width]);
  }
}

/** Bytes of one token's keys and values in all layers. */
export function bytesPerToken(pastInputs: readonly PastInput[]): number {
  const size = ({ type, emptyShape }: PastInput) =>
    emptyShape.reduce((product, axis) => product * (axis || 1), type === "float16" ? 2 : 4);
  return pastInputs.reduce((sum, past) => sum + size(past), 0);
}

/**
 * A cache input that uses the caller's memory without a copy. onnxruntime-node takes a Float16Array to have 0 bytes
 * (https://github.com/microsoft/onnxruntime/pull/32323), and the Tensor constructor converts other arrays to a Float16Array.
 * Therefore `data` of a float16 tensor is replaced by a view of the same memory as 16-bit integers.
 */
export function cacheTensor(data: CacheValues, shape: readonly number[]): Tensor {
  if (data instanceof Float32Array) return new Tensor("float32", data, shape);
  return float16Tensor(new Uint16Array(data.buffer, data.byteOffset, data.length), shape);
}

/** @param bits the values as 16-bit integers */
export function float16Tensor(bits: Uint16Array, shape: readonly number[]): Tensor {
  return Object.defineProperty(new Tensor("float16", bits, shape), "data", { value: bits });
}

/** Logits of all sequences, from [B, 1, width], or of all positions, from [1, T, width]. */
export function logitsRows(logits: Tensor): Float32Array[] {
  const [batch, positions] = logits.dims as [number, number, number];
  return Array.from({ length: batch * positions }, (_, row) => logitsRow(logits, row));
}

/**
 * Logits [width] of one sequence or position as float32, from [B, 1, width] or [1, T, width] in float32 or float16.
 * @throws Error for other types
 */
export function logitsRow(logits: Tensor, row: number): Float32Array {
  const width = logits.dims.at(-1)!;
  const [start, end] = [row * width, (row + 1) * width];
  const { data } = logits;
  if (data instanceof Float32Array) return data.subarray(start, end);
  if (data instanceof Float16Array) return Float32Array.from(data.subarray(start, end));
  throw new Error(`Logits of type ${logits.type} are not supported`);
}

function presentOutputName(name: string, session: SessionMetadata): string {
  const suffix = name.slice(PAST.length);
  const present = [`present.${suffix}`, `present_key_values.${suffix}`].find((candidate) =>
    session.outputNames.includes(candidate),
  );
  if (!present) throw new Error(`The graph has input ${name} but no output present.${suffix}`);
  return present;
}

function describeCache(input: Metadata, cacheShape: CacheShape): Omit<PastInput, "output"> {
  const { name, type } = input;
  if (type !== "float32" && type !== "float16") {
    throw new Error(`A KV cache of type ${type} is not supported (input ${name})`);
  }
  return { name, type, emptyShape: emptyShape(input, cacheShape) };
}

/**
 * Shape of a cache without tokens, for one sequence: fixed axes as declared, the batch axis 1, the token axis 0,
 * and other symbolic axes from config.json.
 */
function emptyShape({ name, shape }: Metadata, { kvHeads, headDim }: CacheShape): number[] {
  const isFixed = (axis: number | string) => typeof axis === "number" && axis > 0;
  const symbolic = shape.flatMap((axis, i) => (isFixed(axis) ? [] : [i]));
  if (symbolic.length === 2) {
    return shape.map((axis, i) =>
      i === symbolic[0] ? 1 : i === symbolic[1] ? 0 : (axis as number),
    );
  }
  if (shape.length === 4) return [1, kvHeads, 0, headDim];
  throw new Error(`The shape of input ${name} is not supported: [${shape.join(", ")}]`);
}

/** @param value a small integer that is not negative */
function integerTensor(
  type: Tensor.Type,
  shape: readonly number[],
  value: (i: number) => number,
): Tensor {
  const size = shape.reduce((product, axis) => product * axis, 1);
  const data = integerArray(type, size);
  // Only the low halves are written (little-endian), because a BigInt for each value takes longer.
  const isWide = data instanceof BigInt64Array;
  const values = isWide ? new Int32Array(data.buffer) : data;
  const step = isWide ? 2 : 1;
  for (let i = 0; i < size; i++) values[step * i] = value(i);
  return new Tensor(type as "int32", data as Int32Array, shape);
}

function integerArray(type: Tensor.Type, size: number) {
  if (type === "int64") return new BigInt64Array(size);
  if (type === "int32") return new Int32Array(size);
  return type === "bool" ? new Uint8Array(size) : new Float32Array(size);
}
