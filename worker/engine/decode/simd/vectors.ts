/**
 * The memory of the kernels: four vectors of floats and one of doubles. Arrays are copied into it and results out of it; a copy takes a
 * twentieth of the time of a kernel. Each thread has one memory, and nothing stays in it from one function of decode/ to the next.
 */
import { assemble } from "./assembler.ts";
import { fractionPowers } from "./exp-code.ts";
import { ARITHMETIC } from "./kernels.ts";
import { BINS, EVEN_BINS, EXP_TABLE, RESULTS, VECTORS } from "./layout.ts";
import { SEARCHES } from "./search-kernels.ts";

type Run = (...args: number[]) => number;
type Kernels = Readonly<Record<keyof typeof ARITHMETIC | keyof typeof SEARCHES, Run>>;

/** The parts that are used here; the types of Node lack them. */
declare const WebAssembly: {
  readonly Memory: new (size: { initial: number }) => {
    readonly buffer: ArrayBuffer;
    grow(pages: number): number;
  };
  readonly Module: new (code: Uint8Array<ArrayBuffer>) => object;
  readonly Instance: new (module: object, imports: object) => { readonly exports: unknown };
};

const PAGE = 65_536;
const FLOAT_VECTORS = 4;
/** The kernels' lengths are multiples of it. */
const LANES = 4;
const FLOAT = 4;
const DOUBLE = 8;
const BYTES_PER_TOKEN = FLOAT_VECTORS * FLOAT + DOUBLE;

const memory = new WebAssembly.Memory({ initial: 1 });
const module = new WebAssembly.Module(assemble({ ...ARITHMETIC, ...SEARCHES }));
export const kernels = new WebAssembly.Instance(module, { env: { memory } }).exports as Kernels;

/** Tokens that a vector has room for. */
let capacity = 0;
let bytes = new ArrayBuffer(0);

/** Makes room for vectors of this size, which move: it comes before `place`. @returns the length for kernels */
export function reserve(size: number): number {
  const length = Math.max(1, Math.ceil(size / LANES)) * LANES;
  if (length > capacity) {
    const missing = VECTORS + length * BYTES_PER_TOKEN - memory.buffer.byteLength;
    if (missing > 0) memory.grow(Math.ceil(missing / PAGE));
    bytes = memory.buffer;
    new Float64Array(bytes, EXP_TABLE, fractionPowers.length).set(fractionPowers);
    capacity = length;
  }
  return length;
}

/** Address of a vector of floats. */
export const addressOf = (vector: 0 | 1 | 2 | 3): number => VECTORS + vector * capacity * FLOAT;
export const doublesAddress = (): number => VECTORS + FLOAT_VECTORS * capacity * FLOAT;

/** Copies an array into a vector of floats. @param rest a value for the tokens up to the kernels' length @returns its address */
export function place(
  vector: 0 | 1 | 2 | 3,
  values: Float32Array,
  { size = values.length, rest = Number.NEGATIVE_INFINITY } = {},
): number {
  const length = reserve(size);
  const address = addressOf(vector);
  const floats = new Float32Array(bytes, address, length);
  floats.set(size === values.length ? values : values.subarray(0, size));
  floats.fill(rest, size);
  return address;
}

/** Copies a vector of floats into an array. */
export function read(out: Float32Array, vector: 0 | 1 | 2 | 3): void {
  out.set(floatsOf(vector, out.length));
}

export const floatsOf = (vector: 0 | 1 | 2 | 3, length: number): Float32Array =>
  new Float32Array(bytes, addressOf(vector), length);
/** A vector of floats as integers. */
export const integersOf = (vector: 0 | 1 | 2 | 3, length: number): Int32Array =>
  new Int32Array(bytes, addressOf(vector), length);
export const doublesOf = (length: number): Float64Array =>
  new Float64Array(bytes, doublesAddress(), length);
export const floatResults = (): Float32Array => new Float32Array(bytes, RESULTS, 8);
export const doubleResults = (): Float64Array => new Float64Array(bytes, RESULTS, 3);
/** The histogram of tokens with even ids, and that of the others, one after the other. */
export const histograms = (): Float64Array => new Float64Array(bytes, EVEN_BINS, 2 * BINS);
