/** Checks one graph from its headers: its files, its inputs, the form in which it will run. */
import { PAST, SUPPORTED_INPUTS } from "../decoder/graph-io.ts";
import type { GraphFacts } from "../graph/inspect.ts";
import { DATA_TYPE } from "../graph/onnx-proto.ts";
import { mayBePrepared, preparationKey, readPrepared } from "../graph/prepared-file.ts";
import { findGraph, graphBytes, type GraphChoice } from "../model/graph-files.ts";
import { expectedForm } from "../model/graph-form.ts";
import { type ModelConfig } from "../model/model-config.ts";
import { inspectModel } from "../model/model-folder.ts";
import type { GraphReport } from "./report.ts";

/**
 * @param preparedFolder where prepared graphs are if the graph's folder cannot be written; null for nowhere
 * @throws Error with file and reason if a worker could not run it
 */
export async function checkGraph(
  choice: GraphChoice,
  config: ModelConfig,
  preparedFolder: string | null = null,
): Promise<GraphReport> {
  const file = findGraph(choice);
  const facts = await inspectModel(choice);
  const reason = refusal(facts);
  if (reason !== null) throw new Error(`${file}: ${reason}`);
  const stored = mayBePrepared(file, preparedFolder)
    ? await readPrepared(file, await preparationKey(file, config), preparedFolder)
    : null;
  const form = stored
    ? { variant: stored.variant, reason: stored.fallbackReason }
    : expectedForm(facts, config);
  const mayBeExact = form.variant === "split" || form.variant === "concat";
  const isExact = stored ? stored.hasExactRows : mayBeExact ? null : false;
  return {
    file,
    bytes: graphBytes(file, facts),
    bfloat16Bytes: facts.bfloat16Bytes,
    form,
    isCompared: stored !== null,
    isReproducible: facts.quantizesActivations ? isExact : true,
    cacheBytesPerToken: cacheBytesPerToken(facts, config),
    logitsWidth: facts.outputs.find(({ name }) => name === "logits")?.shape.at(-1) ?? null,
  };
}

/** Why a worker refuses a graph with these inputs and outputs; null if it does not. */
function refusal({ inputs, outputs }: GraphFacts): string | null {
  const names = inputs.map(({ name }) => name);
  if (!outputs.some(({ name }) => name === "logits")) return "the graph has no output logits";
  if (!names.includes("input_ids")) return "the graph has no input input_ids";
  if (!names.some((name) => name.startsWith(PAST))) {
    return `the graph has no ${PAST}* inputs: export it with a KV cache`;
  }
  const unknown = names.filter((name) => !name.startsWith(PAST) && !SUPPORTED_INPUTS.has(name));
  return unknown.length === 0
    ? null
    : `the graph has inputs that are not supported: ${unknown.join(", ")}`;
}

/** Bytes of one token's keys and values in all layers. */
function cacheBytesPerToken({ inputs }: GraphFacts, { kvHeads, headDim }: ModelConfig): number {
  const caches = inputs.filter(({ name }) => name.startsWith(PAST));
  return caches.reduce((sum, { type, shape }) => {
    const axes = shape.length === 4 ? [shape[1] ?? kvHeads, shape[3] ?? headDim] : shape;
    const values = axes.reduce<number>((product, axis) => product * (axis ?? 1), 1);
    return sum + values * (type === DATA_TYPE.float16 ? 2 : 4);
  }, 0);
}
