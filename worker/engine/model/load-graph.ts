/**
 * Loads a graph file as a decoder. A graph that can be rewritten (graph/prepare.ts) runs with an ExternalCacheDecoder, but
 * only after a comparison of its logits with the original's (graph/probe.ts). The result is stored beside the graph
 * or in a cache folder (graph/prepared-file.ts), so a graph is compared only once. Other graphs run as exported, with a PassthroughCacheDecoder.
 */
import type { InferenceSession } from "../onnxruntime/onnxruntime.ts";
import type { Decoder } from "../decoder/decoder.ts";
import { ExternalCacheDecoder } from "../decoder/external-cache-decoder.ts";
import { GraphIo, hasStandardLayout, LOGITS, type CacheShape } from "../decoder/graph-io.ts";
import { PassthroughCacheDecoder } from "../decoder/passthrough-cache-decoder.ts";
import { createSession, type GraphSession, type SessionOptions } from "../decoder/session.ts";
import { addAdapters } from "../graph/adapter-branches.ts";
import { withGains } from "../graph/dora.ts";
import type { LoraModules } from "../graph/adapter-targets.ts";
import { inspectGraph } from "../graph/inspect.ts";
import { exactAttention } from "../graph/exact-attention.ts";
import type { GraphNode } from "../graph/nodes.ts";
import { outputNames } from "../graph/onnx-wire.ts";
import { rewriteGraph, type GraphRewrite } from "../graph/prepare.ts";
import {
  preparationKey,
  readPrepared,
  writePrepared,
  type PreparedGraph,
} from "../graph/prepared-file.ts";
import {
  compareLogits,
  isCausalBehindCache,
  isWithinTolerance,
  probeLogits,
  probeRoom,
  type ProbeLogits,
} from "../graph/probe.ts";
import { hasExactRows, measureValues } from "../graph/row-probe.ts";
import { measureShapeValues } from "../graph/shape-values.ts";
import { shapeValueNames, simplify } from "../graph/simplify.ts";
import { graphBytes } from "./graph-files.ts";
import {
  checkHoldsAdapters,
  countsEntries,
  expectedForm,
  NO_STANDARD_CACHE,
} from "./graph-form.ts";
import { keepsCacheOnDevice } from "./provider.ts";
import { folderOf, readModel, type ReadModel } from "./read-model.ts";

/** Values from config.json that decide how a graph can run. */
export interface DecoderConfig extends CacheShape {
  /** Heads of queries. */
  readonly attentionHeads: number;
  /** Whether some layer attends only to the last tokens. */
  readonly hasAttentionWindow: boolean;
  /** Whether some layer attends only to tokens of the same chunk of the context. */
  readonly hasAttentionChunks: boolean;
  /** Context length in tokens; null if it is not known. */
  readonly contextTokens: number | null;
}

/** A graph file and how to run it. */
export interface GraphSource {
  readonly file: string;
  readonly config: DecoderConfig;
  readonly options: SessionOptions;
  /** Where a prepared graph is stored if the graph's folder cannot be written; absent for nowhere. */
  readonly preparedFolder?: string | undefined;
  /** The adapters that its rows may use, by index (../graph/adapter-branches.ts); absent for none. */
  readonly adapters?: readonly LoraModules[] | undefined;
  /** Called before a graph is prepared. */
  readonly onPrepare?: (() => void) | undefined;
}

interface LoadedGraph {
  readonly session: GraphSession;
  readonly decoder: Decoder;
}

/** Loads a graph. @throws Error with the reason if it is not a decoder that can run here */
export async function loadGraph(source: GraphSource): Promise<LoadedGraph> {
  const { file, preparedFolder = null, adapters = [], options } = source;
  if (adapters.length > 0) {
    checkHoldsAdapters(expectedForm(inspectGraph(file), source.config), options.executionProvider);
  }
  if (keepsCacheOnDevice(options.executionProvider)) return loadOnDevice(source);
  const key = await preparationKey(file, source.config);
  const found = await readPrepared(file, key, preparedFolder);
  const stored = found && (await withAdapters(found, source));
  // A stored graph that does not open is prepared again. If the original does not open either, that throws the reason.
  const opened = stored && (await openPrepared(source, stored).catch(() => null));
  if (opened) return opened;
  source.onPrepare?.();
  const prepared = await prepare(source);
  // If nothing can be written, the graph is prepared at every load.
  await writePrepared(file, key, prepared, preparedFolder).catch(() => {});
  return openPrepared(source, await withAdapters(prepared, source));
}

/** @throws Error with the reason if the graph cannot have these adapters */
async function withAdapters(
  prepared: PreparedGraph,
  { file, adapters = [], options }: GraphSource,
): Promise<PreparedGraph> {
  if (adapters.length === 0) return prepared;
  const { variant, fallbackReason, bytes } = prepared;
  checkHoldsAdapters({ variant, reason: fallbackReason });
  const gained = await withGains({ bytes, folder: folderOf(file) }, adapters, options);
  return { ...prepared, bytes: addAdapters(bytes, gained) };
}

/** Loads a graph as it was exported, with the KV cache in the memory of the execution provider. */
export async function loadOnDevice({ file, config, options }: GraphSource): Promise<LoadedGraph> {
  const model = readModel(file);
  const deviceOutputs = outputNames(model.bytes).filter((name) => name !== LOGITS);
  const session = await createSession(model.runs, { ...options, deviceOutputs });
  const reason = `with execution provider ${options.executionProvider ?? "cpu"} each sequence runs alone`;
  return orRelease(session, () => {
    const io = new GraphIo(session, config);
    return { session, decoder: new PassthroughCacheDecoder(session, io, reason) };
  });
}

/** Releases the session if no decoder can be made of it. */
async function orRelease<T>(session: InferenceSession, create: () => T): Promise<T> {
  try {
    return create();
  } catch (error) {
    await session.release();
    throw error;
  }
}

/** Prepares a graph and replaces a stored result. @throws Error also if the result cannot be stored */
export async function prepareAndSave(source: GraphSource): Promise<PreparedGraph> {
  const prepared = await prepare(source);
  const { file } = source;
  await writePrepared(file, await preparationKey(file, source.config), prepared);
  return prepared;
}

/** Creates the session and the decoder of a prepared graph, or of the original. This is where a decoder is chosen. */
async function openPrepared(
  { file, config, options }: GraphSource,
  { variant, fallbackReason, newKvOutputs, countsEntries, hasExactRows, bytes }: PreparedGraph,
): Promise<LoadedGraph> {
  if (variant === "original") {
    const session = await createSession(file, options);
    return orRelease(session, () => {
      const io = new GraphIo(session, config);
      return { session, decoder: new PassthroughCacheDecoder(session, io, fallbackReason ?? "") };
    });
  }
  const session = await createSession({ bytes, folder: folderOf(file) }, options);
  return orRelease(session, () => {
    const io = new GraphIo(session, config, {
      newKvOutputs: new Map(Object.entries(newKvOutputs)),
      alignment: variant === "fused" ? "start" : countsEntries ? "end" : "gap",
    });
    const contextTokens = variant === "fused" ? null : config.contextTokens;
    const facts = inspectGraph(file);
    // As float32, weights in bfloat16 take twice their bytes.
    const weightBytes = graphBytes(file, facts) + facts.bfloat16Bytes;
    const decoder = new ExternalCacheDecoder(session, io, {
      hasExactRows,
      contextTokens,
      weightBytes,
      attentionHeads: config.attentionHeads,
    });
    return { session, decoder: decoder as Decoder };
  });
}

/**
 * Rewrites a graph and compares the result with the original. It always runs on the CPU: other execution providers may
 * round more than the comparison allows (TF32).
 */
async function prepare(source: GraphSource): Promise<PreparedGraph> {
  const onCpu = { ...source, options: { ...source.options, executionProvider: "cpu" } as const };
  const facts = inspectGraph(source.file);
  const model = readModel(source.file);
  const session = await createSession(model.runs, onCpu.options);
  let rewrites: GraphRewrite[];
  let reference: ProbeLogits;
  try {
    const io = new GraphIo(session, source.config);
    const decoder = new PassthroughCacheDecoder(session, io, "");
    rewrites = rewriteGraph(model.bytes);
    const fallbackReason =
      expectedForm(facts, source.config).reason ??
      (io.pastInputs.every(hasStandardLayout) ? null : NO_STANDARD_CACHE);
    if (fallbackReason !== null) return orRefuse({ ...ORIGINAL, fallbackReason }, model);
    reference = await probeLogits(decoder);
    const isLowPrecision = rewrites.some((rewrite) => rewrite.isLowPrecision);
    if (io.hasInput("use_cache_branch") && !(await isCausalBehindCache(decoder, isLowPrecision))) {
      throw new Error(
        "its branch with a cache takes one new token only: export it again with a newer optimum",
      );
    }
  } finally {
    await session.release();
  }
  let failed = ORIGINAL;
  for (const rewrite of rewrites) {
    const isKnown = rewrite.variant === "fused" || countsEntries(facts, source.config);
    for (const counts of isKnown ? [rewrite.variant !== "fused"] : [false, true]) {
      const check = {
        reference,
        probesRows: facts.quantizesActivations,
        countsEntries: counts,
      };
      const result = await verifyRewrite(onCpu, rewrite, { nodes: rewrite.nodes, ...check });
      if (result.variant === "split") {
        return (await simplifyRewrite(onCpu, rewrite, check)) ?? result;
      }
      if (result.variant !== "original") return result;
      failed = result;
    }
  }
  return orRefuse(failed, model);
}

/** @throws Error if the graph of the file does not run */
function orRefuse(original: PreparedGraph, { problem }: ReadModel): PreparedGraph {
  if (problem === null) return original;
  throw new Error(`${problem}: ${original.fallbackReason}`);
}

/** How a rewritten graph is checked. */
interface RewriteCheck extends Pick<PreparedGraph, "countsEntries"> {
  /** The original's. */
  readonly reference: ProbeLogits;
  /** Whether it is measured if rows are exact. */
  readonly probesRows: boolean;
}

/** The rewritten graph with these nodes if its logits match the original's; otherwise the original and the reason. */
async function verifyRewrite(
  source: GraphSource,
  { variant, newKvOutputs, isLowPrecision, build }: GraphRewrite,
  {
    nodes,
    reference,
    probesRows,
    countsEntries,
  }: RewriteCheck & { readonly nodes: readonly GraphNode[] },
): Promise<PreparedGraph> {
  const rewritten = {
    ...ORIGINAL,
    variant,
    countsEntries,
    newKvOutputs: Object.fromEntries(newKvOutputs),
    bytes: build(nodes),
  };
  try {
    const { session, decoder } = await openPrepared(source, rewritten);
    try {
      const room = probeRoom(source.config.contextTokens, decoder.kvRows!.bytesPerToken);
      const logitsChange = compareLogits(await probeLogits(decoder, room), reference);
      if (isWithinTolerance(logitsChange, isLowPrecision)) {
        const exactRows = probesRows && (await hasExactRows(decoder));
        return { ...rewritten, logitsChange, hasExactRows: exactRows };
      }
      const largest = Math.max(logitsChange.single, logitsChange.batched);
      const fallbackReason = `preparing the graph would change its logits by ${largest}`;
      return { ...ORIGINAL, logitsChange, fallbackReason };
    } finally {
      await session.release();
    }
  } catch (error) {
    // The rewrite does not support this kind of graph.
    const reason = error instanceof Error ? error.message : String(error);
    return { ...ORIGINAL, fallbackReason: `the prepared graph does not run: ${reason}` };
  }
}

/** A rewritten graph with fewer nodes; null if it cannot be simplified without changing its logits. */
async function simplifyRewrite(
  source: GraphSource,
  rewrite: GraphRewrite,
  check: RewriteCheck,
): Promise<PreparedGraph | null> {
  const { nodes, inputs, newKvOutputs, opset } = rewrite;
  const names = shapeValueNames(nodes, inputs);
  if (names.length === 0) return null;
  try {
    const { shapes, values } = await measureRewrite(source, rewrite, names, check.probesRows);
    const simplified = simplify(nodes, shapes, new Set([LOGITS, ...newKvOutputs.values()]));
    const exact = check.probesRows ? exactAttention(simplified, values, opset) : null;
    const result = exact && (await verifyRewrite(source, rewrite, { nodes: exact, ...check }));
    // It is slower, so it must be good for something.
    if (result?.hasExactRows) return result;
    const plain = await verifyRewrite(source, rewrite, { nodes: simplified, ...check });
    return plain.variant === "original" ? null : plain;
  } catch {
    return null;
  }
}

/** Values with which a rewritten graph is simplified, and those of attention if `withValues`. */
async function measureRewrite(
  source: GraphSource,
  { nodes, newKvOutputs, build }: GraphRewrite,
  names: readonly string[],
  withValues: boolean,
) {
  const model = { bytes: build(nodes, names), folder: folderOf(source.file) };
  const session = await createSession(model, source.options);
  try {
    const io = new GraphIo(session, source.config, { newKvOutputs, alignment: "end" });
    const shapes = await measureShapeValues(session, io, names);
    const values = withValues
      ? await measureValues(session, io, newKvOutputs)
      : new Map<string, number>();
    return { shapes, values };
  } finally {
    await session.release();
  }
}

/** The graph as it was exported. */
const ORIGINAL: PreparedGraph = {
  variant: "original",
  logitsChange: null,
  fallbackReason: null,
  countsEntries: false,
  hasExactRows: false,
  newKvOutputs: {},
  bytes: new Uint8Array(),
};
