/** Writes a graph whose weights are in a separate file, as in all models above 2 GB. */
import { readFileSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import { GRAPH_PROTO, MODEL_PROTO } from "../../worker/engine/graph/onnx-proto.ts";
import {
  externalInitializerField,
  messageField,
  rawFields,
} from "../../worker/engine/graph/onnx-wire.ts";

/** @param graph a graph with its weights inside; it is replaced @param data the file for its weights */
export function moveWeights(graph: string, data: string): void {
  const bytes = readFileSync(graph);
  writeFileSync(data, bytes);
  const file = { name: basename(data), bytes };
  const model = Array.from(rawFields(bytes), ({ field, raw, content }) => {
    if (field !== MODEL_PROTO.graph) return raw;
    const parts = Array.from(rawFields(content), (part) => {
      const isWeight = part.field === GRAPH_PROTO.initializer;
      return (isWeight && externalInitializerField(part.content, file)) || part.raw;
    });
    return messageField(MODEL_PROTO.graph, parts);
  });
  writeFileSync(graph, Buffer.concat(model));
}
