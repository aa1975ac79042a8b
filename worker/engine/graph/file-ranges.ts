/** Reads parts of a model file without the rest of it, which may be gigabytes of weights. */
import { readSync } from "node:fs";
import { Reader } from "protobufjs/minimal.js";

/** A part of a file, in bytes from its begin; `end` is excluded. */
export interface Range {
  readonly start: number;
  readonly end: number;
}

/** A field's tag and length need at most 15 bytes, a 64-bit number at most 10. */
const HEADER_BYTES_MAX = 16;

/** A field of a message in a file: an integer has a value, the others a range with their content, without tag and length. */
export interface FieldRange extends Range {
  readonly field: number;
  readonly value: number | null;
  readonly tagStart: number;
}

/** The fields of a message in a file, without their contents. @throws Error if the file is too short */
export function* fieldsOf(fd: number, { start, end }: Range): Generator<FieldRange> {
  let at = start;
  while (at < end) {
    const reader = Reader.create(
      readRange(fd, { start: at, end: Math.min(end, at + HEADER_BYTES_MAX) }),
    );
    const tag = reader.uint32();
    const wireType = tag & 7;
    const length = wireType === 2 ? reader.uint32() : 0;
    const value = wireType === 0 ? Number(reader.int64()) : null;
    if (wireType !== 2 && wireType !== 0) reader.skipType(wireType);
    const [tagStart, contentStart] = [at, at + reader.pos];
    at = contentStart + length;
    if (at > end) throw truncated();
    yield { field: tag >>> 3, value, tagStart, start: contentStart, end: at };
  }
}

export function readRange(fd: number, { start, end }: Range): Uint8Array {
  const bytes = new Uint8Array(end - start);
  if (readSync(fd, bytes, 0, bytes.length, start) !== bytes.length) throw truncated();
  return bytes;
}

const truncated = () =>
  new Error("The graph file ends within a field: it is truncated, so get it again");
