/**
 * A small assembler for WebAssembly with 128-bit SIMD, so that the kernels need no build step. An instruction is a function: it takes the
 * code of its operands and gives the code that leaves its result. V8 checks the types when it loads the module.
 */

/** The bytes of an expression or a statement. */
export type Code = readonly number[];
export type ValueType = "i32" | "f64" | "v128";

const TYPES: Readonly<Record<ValueType, number>> = { i32: 0x7f, f64: 0x7c, v128: 0x7b };
/** The first bytes of every module: "\0asm", and the version. */
const MAGIC = [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0];
const EMPTY_BLOCK = 0x40;
const END = 0x0b;

/** LEB128 of an unsigned integer. */
function unsigned(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  do {
    bytes.push((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0));
    rest >>>= 7;
  } while (rest > 0);
  return bytes;
}

/** LEB128 of a signed 32-bit integer. */
function signed(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  for (;;) {
    const byte = rest & 0x7f;
    rest >>= 7;
    const isLast = (rest === 0 && (byte & 0x40) === 0) || (rest === -1 && (byte & 0x40) !== 0);
    bytes.push(isLast ? byte : byte | 0x80);
    if (isLast) return bytes;
  }
}

const plain =
  (opcode: number) =>
  (...operands: Code[]): Code => [...operands.flat(), opcode];
const simd =
  (opcode: number) =>
  (...operands: Code[]): Code => [...operands.flat(), 0xfd, ...unsigned(opcode)];
const lane =
  (opcode: number) =>
  (index: number, ...operands: Code[]): Code => [
    ...operands.flat(),
    0xfd,
    ...unsigned(opcode),
    index,
  ];
/** An instruction that reads or writes memory, at an address plus a constant. */
const memory =
  (prefix: Code) =>
  (address: Code, offset: number, value: Code = []): Code => [
    ...address,
    ...value,
    ...prefix,
    0,
    ...unsigned(offset),
  ];
const memoryLane =
  (opcode: number) =>
  (index: number, address: Code, offset: number, value: Code): Code => [
    ...address,
    ...value,
    0xfd,
    ...unsigned(opcode),
    0,
    ...unsigned(offset),
    index,
  ];

export const i32 = {
  const: (value: number): Code => [0x41, ...signed(value)],
  ltU: plain(0x49),
  ctz: plain(0x68),
  add: plain(0x6a),
  sub: plain(0x6b),
  and: plain(0x71),
  shl: plain(0x74),
  store: memory([0x36]),
};

export const f64 = {
  const: (value: number): Code => [
    0x44,
    ...new Uint8Array(new Float64Array([value]).buffer), // WebAssembly is little-endian, and so is every machine that runs Node.
  ],
  add: plain(0xa0),
  max: plain(0xa5),
  load: memory([0x2b]),
  store: memory([0x39]),
};

export const v128 = {
  const: (...words: readonly [number, number, number, number]): Code => [
    0xfd,
    0x0c,
    ...new Uint8Array(Int32Array.from(words).buffer),
  ],
  load: memory([0xfd, 0x00]),
  load64Zero: memory([0xfd, 0x5d]),
  store: memory([0xfd, 0x0b]),
  load64Lane: memoryLane(0x57),
  store64Lane: memoryLane(0x5b),
  not: simd(0x4d),
  and: simd(0x4e),
  /** The first operand's bits that the second does not have. */
  andnot: simd(0x4f),
  or: simd(0x50),
  xor: simd(0x51),
  /** Bits of the first operand where the third has ones, else of the second. */
  bitselect: simd(0x52),
  anyTrue: simd(0x53),
};

export const i32x4 = {
  splat: simd(0x11),
  extractLane: lane(0x1b),
  bitmask: simd(0xa4),
  shl: simd(0xab),
  shrU: simd(0xad),
  add: simd(0xae),
  mul: simd(0xb5),
  eq: simd(0x37),
};

export const i64x2 = {
  splat: (value: bigint): Code => {
    const words = new Int32Array(BigInt64Array.of(value, value).buffer);
    return v128.const(words[0]!, words[1]!, words[2]!, words[3]!);
  },
  add: simd(0xce),
  shl: simd(0xcb),
};

export const f32x4 = {
  /** Of a double. */
  splat: (value: Code): Code => [...value, 0xb6, 0xfd, 0x13],
  extractLane: lane(0x1f),
  eq: simd(0x41),
  lt: simd(0x43),
  gt: simd(0x44),
  ge: simd(0x46),
  add: simd(0xe4),
  sub: simd(0xe5),
  mul: simd(0xe6),
  max: simd(0xe9),
  /** b if a > b, else a: a NaN as b is ignored. */
  pmin: simd(0xea),
  /** b if a < b, else a: a NaN as b is ignored. */
  pmax: simd(0xeb),
  demote: simd(0x5e),
  convertI32x4: simd(0xfa),
};

export const f64x2 = {
  splat: simd(0x14),
  extractLane: lane(0x21),
  eq: simd(0x47),
  lt: simd(0x49),
  gt: simd(0x4a),
  le: simd(0x4b),
  floor: simd(0x75),
  trunc: simd(0x7a),
  add: simd(0xf0),
  sub: simd(0xf1),
  mul: simd(0xf2),
  div: simd(0xf3),
  /** b if a < b, else a: a NaN as b is ignored. */
  pmax: simd(0xf7),
  promoteLow: simd(0x5f),
  convertLowI32x4: simd(0xfe),
};

export interface Local {
  readonly get: Code;
  set(value: Code): Code;
}

/** One exported function. Its parameters come first among its locals. */
export class Kernel {
  readonly #params: readonly ValueType[];
  readonly #locals: ValueType[] = [];
  readonly #start: number[] = [];

  constructor(params: readonly ValueType[]) {
    this.#params = params;
  }

  local(type: ValueType): Local {
    this.#locals.push(type);
    return local(this.#params.length + this.#locals.length - 1);
  }

  /** A vector that is set before the function's statements: in a loop, its value would be made again each time. */
  constant(value: Code): Code {
    const vector = this.local("v128");
    this.#start.push(...vector.set(value));
    return vector.get;
  }

  body(statements: readonly Code[]): Code {
    const locals = this.#locals.flatMap((type) => [1, TYPES[type]]);
    return sized([
      ...unsigned(this.#locals.length),
      ...locals,
      ...this.#start,
      ...statements.flat(),
      END,
    ]);
  }
}

const local = (index: number): Local => ({
  get: [0x20, ...unsigned(index)],
  set: (value) => [...value, 0x21, ...unsigned(index)],
});

export const returned = (value: Code): Code => [...value, 0x0f];
export const when = (condition: Code, ...statements: Code[]): Code => [
  ...condition,
  0x04,
  EMPTY_BLOCK,
  ...statements.flat(),
  END,
];
/** Runs the statements, steps the counter, and starts again while it is below the end. */
export const repeat = (
  counter: Local,
  step: number,
  end: Code,
  ...statements: readonly Code[]
): Code => [
  0x03,
  EMPTY_BLOCK,
  ...statements.flat(),
  ...counter.set(i32.add(counter.get, i32.const(step))),
  ...i32.ltU(counter.get, end),
  0x0d,
  0,
  END,
];

const sized = (bytes: Code): Code => [...unsigned(bytes.length), ...bytes];
const section = (id: number, entries: readonly Code[]): Code => [
  id,
  ...sized([...unsigned(entries.length), ...entries.flat()]),
];
const text = (value: string): Code => sized([...new TextEncoder().encode(value)]);

/** A kernel's type, and a function that gives its code. */
export interface KernelSource {
  readonly params: readonly ValueType[];
  readonly result: ValueType | null;
  readonly write: (kernel: Kernel) => readonly Code[];
}

/** @param result null for none */
export function kernelOf<Name extends string>(
  params: Readonly<Record<Name, ValueType>>,
  result: ValueType | null,
  write: (params: Readonly<Record<Name, Local>>, kernel: Kernel) => readonly Code[],
): KernelSource {
  const names = Object.keys(params) as Name[];
  const locals = Object.fromEntries(names.map((name, index) => [name, local(index)]));
  return {
    params: names.map((name) => params[name]),
    result,
    write: (kernel) => write(locals as Record<Name, Local>, kernel),
  };
}

/** A module that imports its memory as `env.memory` and exports one function for each source. */
export function assemble(sources: Readonly<Record<string, KernelSource>>): Uint8Array<ArrayBuffer> {
  const kernels = Object.entries(sources).map(([name, { params, result, write }], index) => {
    const kernel = new Kernel(params);
    return {
      type: [
        0x60,
        ...unsigned(params.length),
        ...params.map((type) => TYPES[type]),
        ...(result ? [1, TYPES[result]] : [0]),
      ],
      declaration: unsigned(index),
      exported: [...text(name), 0, ...unsigned(index)],
      body: kernel.body(write(kernel)),
    };
  });
  return Uint8Array.from([
    ...MAGIC,
    ...section(
      1,
      kernels.map(({ type }) => type),
    ),
    ...section(2, [[...text("env"), ...text("memory"), 2, 0, 1]]),
    ...section(
      3,
      kernels.map(({ declaration }) => declaration),
    ),
    ...section(
      7,
      kernels.map(({ exported }) => exported),
    ),
    ...section(
      10,
      kernels.map(({ body }) => body),
    ),
  ]);
}
