/** Reads safetensors files: a JSON header with the place of each tensor, and the values behind it. */
import { closeSync, fstatSync, openSync } from "node:fs";
import * as v from "valibot";
import { readRange } from "../graph/file-ranges.ts";
import { refusePointer } from "../graph/lfs-pointer.ts";

/** The limit of the format's own library. */
const HEADER_BYTES_MAX = 100_000_000;
/** The header begins behind its length. */
const LENGTH_BYTES = 8;

const NOT_SAFETENSORS = "it is not a safetensors file";

const whole = v.pipe(v.number(), v.integer(), v.minValue(0));
const Header = v.record(
  v.string(),
  v.object({
    dtype: v.string(),
    shape: v.array(whole),
    data_offsets: v.tuple([whole, whole]),
  }),
);

const BYTES = { F32: 4, F16: 2, BF16: 2 } as const;

export interface TensorShape {
  readonly name: string;
  readonly shape: readonly number[];
}

export interface Tensor extends TensorShape {
  readonly values: Float32Array;
}

/**
 * The tensors of a file as float32.
 * @param check throws if it refuses tensors of these shapes; called before their values are read
 * @throws Error with the reason if the file is broken, or if a tensor has another type
 */
export function readSafetensors(
  file: string,
  check: (shapes: readonly TensorShape[]) => void,
): Tensor[] {
  refusePointer(file);
  const fd = openSync(file, "r");
  try {
    const { start, header } = readHeader(fd);
    const entries = Object.entries(header);
    check(entries.map(([name, { shape }]) => ({ name, shape })));
    const sizes = entries.map(([, { shape }]) => shape.reduce((size, axis) => size * axis, 1));
    return entries.map(
      (
        [
          name,
          {
            dtype,
            shape,
            data_offsets: [begin, end],
          },
        ],
        i,
      ) => {
        if (!(dtype in BYTES)) throw new Error(`${name} has type ${dtype}, not F32, F16 or BF16`);
        if (end - begin !== sizes[i]! * BYTES[dtype as keyof typeof BYTES]) {
          throw new Error(
            `${name} has ${end - begin} bytes, which is not its shape [${shape.join(", ")}]`,
          );
        }
        const bytes = readRange(fd, { start: start + begin, end: start + end });
        return { name, shape, values: toFloat32(bytes, dtype) };
      },
    );
  } finally {
    closeSync(fd);
  }
}

function readHeader(fd: number): { start: number; header: v.InferOutput<typeof Header> } {
  const { size } = fstatSync(fd);
  const lengthBytes = size < LENGTH_BYTES ? new Uint8Array(LENGTH_BYTES) : readStart(fd);
  const length = Number(new DataView(lengthBytes.buffer).getBigUint64(0, true));
  const start = LENGTH_BYTES + length;
  if (length === 0 || length > HEADER_BYTES_MAX || start > size) {
    throw new Error(`${NOT_SAFETENSORS}, or it is truncated`);
  }
  const text = new TextDecoder().decode(readRange(fd, { start: LENGTH_BYTES, end: start }));
  const header = parseHeader(text);
  if (Object.values(header).some(({ data_offsets: [, end] }) => start + end > size)) {
    throw new Error("it is truncated: get it again");
  }
  return { start, header };
}

function parseHeader(text: string): v.InferOutput<typeof Header> {
  try {
    const { __metadata__: _, ...tensors } = v.parse(v.looseObject({}), JSON.parse(text));
    return v.parse(Header, tensors);
  } catch (error) {
    const message = `${NOT_SAFETENSORS}: its header is wrong (${(error as Error).message})`;
    throw new Error(message, { cause: error });
  }
}

const readStart = (fd: number) => readRange(fd, { start: 0, end: LENGTH_BYTES });

/** @param bytes in little-endian order, as in memory */
function toFloat32({ buffer }: Uint8Array, dtype: string): Float32Array {
  if (dtype === "F32") return new Float32Array(buffer);
  if (dtype === "F16") return Float32Array.from(new Float16Array(buffer));
  const halves = new Uint16Array(buffer);
  // bfloat16 has the first 16 bits of a float32.
  const bits = new Uint32Array(halves.length);
  for (const [i, half] of halves.entries()) bits[i] = half * 2 ** 16;
  return new Float32Array(bits.buffer);
}
