/**
 * Reads a graph file without the values of its weights, which may be gigabytes: the model in memory refers to them where they are,
 * in the file itself or in the files of external weights. onnxruntime maps them into memory.
 */
import { closeSync, fstatSync, openSync } from "node:fs";
import { Writer } from "protobufjs/minimal.js";
import { renamedEntry, renamedNode } from "./external-names.ts";
import { fieldsOf, readRange, type FieldRange } from "./file-ranges.ts";
import { inspectGraph } from "./inspect.ts";
import {
  DATA_LOCATION_EXTERNAL,
  GRAPH_PROTO,
  MODEL_PROTO,
  TENSOR_PROTO,
  varintTag,
} from "./onnx-proto.ts";
import { externalDataField, messageField } from "./onnx-wire.ts";
import { realNames, type RealNames } from "./real-names.ts";
import { inField } from "./weights.ts";

/** Weights with fewer bytes are copied: onnxruntime may compute with small ones while it loads a graph. */
const EXTERNAL_BYTES_MIN = 1_024;

/** The model of a graph file. Its references count from the folder of the file itself, behind links. */
export function readModelFile(file: string): Uint8Array {
  const names = realNames(file, inspectGraph(file));
  const fd = openSync(file, "r");
  try {
    const whole = { start: 0, end: fstatSync(fd).size };
    const parts = Array.from(fieldsOf(fd, whole)).flatMap((field) =>
      field.field === MODEL_PROTO.graph
        ? inField(
            field.field,
            Array.from(fieldsOf(fd, field), (part) =>
              part.field === GRAPH_PROTO.initializer
                ? weightField(fd, part, names)
                : part.field === GRAPH_PROTO.node
                  ? nodeField(fd, part, names)
                  : rawField(fd, part),
            ),
          )
        : [rawField(fd, field)],
    );
    return Buffer.concat(parts);
  } finally {
    closeSync(fd);
  }
}

/** A field with its tag. */
const rawField = (fd: number, { tagStart, end }: FieldRange) =>
  readRange(fd, { start: tagStart, end });

const nodeField = (fd: number, node: FieldRange, { externalNames }: RealNames) =>
  externalNames.size === 0
    ? rawField(fd, node)
    : messageField(GRAPH_PROTO.node, renamedNode(readRange(fd, node), externalNames));

/** A weight as a field of the graph, which refers to its values if they are many. */
function weightField(fd: number, weight: FieldRange, { name, externalNames }: RealNames) {
  const fields = [...fieldsOf(fd, weight)];
  const values = fields.find(
    ({ field, start, end }) => field === TENSOR_PROTO.rawData && end - start >= EXTERNAL_BYTES_MIN,
  );
  const isExternal = fields.some(({ field }) => field === TENSOR_PROTO.externalData);
  if (!values && !(isExternal && externalNames.size > 0)) return rawField(fd, weight);
  const kept = fields.filter((field) => field !== values);
  return messageField(GRAPH_PROTO.initializer, [
    ...kept.map((field) =>
      field.field === TENSOR_PROTO.externalData
        ? renamedEntry(readRange(fd, field), externalNames)
        : rawField(fd, field),
    ),
    ...(values ? referenceTo(name, values) : []),
  ]);
}

function referenceTo(name: string, { start, end }: FieldRange): Uint8Array[] {
  return [
    externalDataField("location", name),
    externalDataField("offset", String(start)),
    externalDataField("length", String(end - start)),
    Writer.create()
      .uint32(varintTag(TENSOR_PROTO.dataLocation))
      .int32(DATA_LOCATION_EXTERNAL)
      .finish(),
  ];
}
