/**
 * From a graph's file to a decoder. Graphs that can be prepared (prepare.ts) decode in batches over a cache of ours; the
 * comparison with the original decides (probe.ts), not hope. It is made once: what it came to is kept beside the graph.
 */
import { realpathSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { basename, dirname } from "node:path";
import type { InferenceSession } from "onnxruntime-node";
import type { Decoder } from "./decoder.ts";
import { GraphIo, LOGITS, type CacheShape } from "./graph-io.ts";
import { hasRows } from "./kv-cache.ts";
import { measure } from "./measure.ts";
import { outputNames, type GraphNode } from "./onnx-wire.ts";
import { OwnedDecoder } from "./owned-decoder.ts";
import { prepareGraph, type Candidate } from "./prepare.ts";
import { preparationKey, readPrepared, writePrepared, type Prepared } from "./prepared-file.ts";
import { changeOf, isRounding, probe, type Probed } from "./probe.ts";
import { keepsCacheOnDevice } from "./provider.ts";
import { RefedDecoder } from "./refed-decoder.ts";
import { createSession, type SessionOptions } from "./session.ts";
import { simplify, valuesToMeasure } from "./simplify.ts";

/** What config.json says that running the graph depends on. */
export interface DecoderConfig extends CacheShape {
  /** Attention reaches back over a limited number of rows, counted where they lie: masked rows would shift it. */
  readonly limitedAttention: boolean;
}

/** A graph and how to run it. */
export interface GraphSource {
  readonly file: string;
  readonly config: DecoderConfig;
  readonly options: SessionOptions;
}

/** Loads a graph; throws with the reason if it is not a decoder that we can run. */
export async function loadGraph(source: GraphSource): Promise<Decoder> {
  if (keepsCacheOnDevice(source.options.executionProvider)) return loadOnDevice(source);
  const file = realpathSync(source.file);
  const key = await preparationKey(file, source.config);
  const kept = await readPrepared(file, key);
  // What does not open any more is made again, and tells why not if it is not the preparation's fault.
  const opened = kept && (await open(source, kept).catch(() => null));
  if (opened) return opened.decoder;
  const prepared = await prepare(source);
  // Models may lie where nothing can be written; then every load prepares.
  await writePrepared(file, key, prepared).catch(() => {});
  return (await open(source, prepared)).decoder;
}

/** Loads a graph as it was exported, its cache to stay where it is computed. */
export async function loadOnDevice({ file, config, options }: GraphSource): Promise<Decoder> {
  const keptOutputs = outputNames(await readFile(file)).filter((name) => name !== LOGITS);
  const session = await createSession(file, { ...options, keptOutputs });
  const why = `on ${options.executionProvider ?? "cpu"} each sequence runs alone`;
  return new RefedDecoder(session, new GraphIo(session, config), why);
}

/** Prepares a graph and keeps what it came to, whatever was kept before. Throws also where it cannot be kept. */
export async function prepareFile(source: GraphSource): Promise<Prepared> {
  const prepared = await prepare(source);
  const file = realpathSync(source.file);
  await writePrepared(file, await preparationKey(file, source.config), prepared);
  return prepared;
}

async function open(
  { file, config, options }: GraphSource,
  { form, why, newRows, bytes }: Prepared,
): Promise<{ session: InferenceSession; decoder: Decoder }> {
  if (form === "plain") {
    const session = await createSession(file, options);
    const decoder = new RefedDecoder(session, new GraphIo(session, config), why ?? "");
    return { session, decoder };
  }
  const folder = dirname(realpathSync(file));
  const session = await createSession({ bytes, folder }, options);
  const io = new GraphIo(session, config, {
    newRows: new Map(Object.entries(newRows)),
    isRightPadded: form === "fused",
  });
  return { session, decoder: new OwnedDecoder(session, io) as Decoder };
}

/** On the processor whatever the graph is to run on: others may round more than a comparison allows (TF32). */
async function prepare(given: GraphSource): Promise<Prepared> {
  const source = { ...given, options: { ...given.options, executionProvider: "cpu" } as const };
  const { session, decoder } = await open(source, PLAIN);
  let candidates: Candidate[];
  let reference: Probed;
  try {
    const name = basename(realpathSync(source.file));
    candidates = prepareGraph({ name, bytes: await readFile(source.file) });
    const why = hindrance(candidates[0], new GraphIo(session, source.config), source.config);
    if (why !== null) return { ...PLAIN, why };
    reference = await probe(decoder);
  } finally {
    await session.release();
  }
  let failed = PLAIN;
  for (const candidate of candidates) {
    const tried = await attempt(source, candidate, { nodes: candidate.nodes, reference });
    if (tried.form === "split") return (await simplified(source, candidate, reference)) ?? tried;
    if (tried.form !== "plain") return tried;
    failed = tried;
  }
  return failed;
}

/** A candidate of these nodes if it computes what the original does; else the original, and why. */
async function attempt(
  source: GraphSource,
  { form, newRows, rounds, build }: Candidate,
  { nodes, reference }: { nodes: readonly GraphNode[]; reference: Probed },
): Promise<Prepared> {
  const unchecked = {
    ...PLAIN,
    form,
    newRows: Object.fromEntries(newRows),
    bytes: build(nodes),
  };
  try {
    const { session, decoder } = await open(source, unchecked);
    const change = changeOf(await probe(decoder), reference);
    await session.release();
    if (isRounding(change, rounds)) return { ...unchecked, change };
    const largest = Math.max(change.alone, change.together);
    return { ...PLAIN, change, why: `its logits would change by ${largest}` };
  } catch (error) {
    // A graph of a kind that was not thought of when the rewriting was written.
    const why = `prepared, it does not run: ${error instanceof Error ? error.message : String(error)}`;
    return { ...PLAIN, why };
  }
}

/** A candidate with fewer nodes, or null if it is better left as it is. */
async function simplified(
  source: GraphSource,
  candidate: Candidate,
  reference: Probed,
): Promise<Prepared | null> {
  const { nodes, inputs, newRows, build } = candidate;
  const names = valuesToMeasure(nodes, inputs);
  if (names.length === 0) return null;
  try {
    const folder = dirname(realpathSync(source.file));
    const session = await createSession({ bytes: build(nodes, names), folder }, source.options);
    const io = new GraphIo(session, source.config, { newRows, isRightPadded: false });
    const measured = await measure(session, io, names);
    await session.release();
    const fewer = simplify(nodes, measured, new Set([LOGITS, ...newRows.values()]));
    const tried = await attempt(source, candidate, { nodes: fewer, reference });
    return tried.form === "plain" ? null : tried;
  } catch {
    return null;
  }
}

/** Why a graph is not even tried with a cache of ours, or null. */
function hindrance(
  candidate: Candidate | undefined,
  io: GraphIo,
  config: DecoderConfig,
): string | null {
  if (!candidate) return "its cache is made neither by Concat nor by GroupQueryAttention";
  if (!io.pasts.every(hasRows)) return "its cache is not [batch, heads, tokens, size]";
  // The fused operator counts positions and windows by what a row has, not by where it lies.
  if (candidate.form === "fused") return null;
  if (!io.takes("position_ids")) return "it has no position_ids";
  return config.limitedAttention ? "its attention has a window" : null;
}

/** The graph as it was exported. */
const PLAIN: Prepared = {
  form: "plain",
  change: null,
  why: null,
  newRows: {},
  bytes: new Uint8Array(),
};
