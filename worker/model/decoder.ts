/**
 * One model as the loop sees it, and how it is loaded. Graphs that can be prepared (prepare.ts) decode in batches over a
 * cache of ours; the comparison at loading decides, not hope.
 */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { InferenceSession } from "onnxruntime-node";
import { GraphIo, type CacheShape } from "./graph-io.ts";
import { hasRows } from "./kv-cache.ts";
import { OwnedDecoder } from "./owned-decoder.ts";
import { prepareGraph, type PreparedGraph } from "./prepare.ts";
import { RefedDecoder } from "./refed-decoder.ts";

/** One sequence's next token. */
export interface Turn<S> {
  readonly sequence: S;
  readonly id: number;
}

/** A loaded model. S is one inference timeline in it, with its cache. */
export interface Decoder<S = unknown> {
  /** Width of a row of logits, or null if the graph does not say before it runs. */
  readonly logitsWidth: number | null;
  /** Why this model decodes without a cache of ours, one sequence at a time, or null if it does not. */
  readonly slowBecause: string | null;
  /** Bytes of all open sequences' caches. */
  readonly cacheBytes: number;
  /** Bytes that the caches of sequences of these lengths come to, together. */
  cacheBytesFor(lengths: readonly number[]): number;
  /** Starts a sequence with an empty cache. */
  open(): S;
  close(sequence: S): void;
  /** Puts tokens into the cache; their logits are of no interest. */
  prefill(sequence: S, ids: readonly number[]): Promise<void>;
  /**
   * Runs one more token of each sequence.
   * @returns logits [>= V] after it, in the order of the turns
   */
  decode(turns: readonly Turn<S>[]): Promise<Float32Array[]>;
  /**
   * Runs several tokens of one sequence at once, for little more than the price of one.
   * @returns logits [>= V] after each of them
   */
  score(sequence: S, ids: readonly number[]): Promise<Float32Array[]>;
  /** Forgets the last tokens of a sequence; null where the cache cannot. */
  readonly rewind: ((sequence: S, count: number) => void) | null;
}

export interface DecoderOptions {
  /** Threads inside one operator; 0 lets onnxruntime choose. */
  readonly intraOpThreads: number;
}

/** What config.json says that running the graph depends on. */
export interface DecoderConfig extends CacheShape {
  /** Attention reaches back over a limited number of rows, counted where they lie: masked rows would shift it. */
  readonly limitedAttention: boolean;
}

/** Loads a graph; throws with the reason if it is not a decoder that we can run. */
export async function loadGraph(
  file: string,
  config: DecoderConfig,
  options: DecoderOptions,
): Promise<Decoder> {
  if (existsSync(`${file}_data`) || existsSync(`${file}.data`)) {
    const session = await createSession(file, options);
    const why = "its weights are in a file of their own";
    return new RefedDecoder(session, new GraphIo(session, config), why);
  }
  const bytes = await readFile(file);
  const prepared = prepareGraph(bytes);
  const session = await createSession(prepared?.bytes ?? bytes, options);
  const io = new GraphIo(session, config);
  const refed = (why: string) => new RefedDecoder(session, io, why) as Decoder;
  if (!prepared) return refed("its cache is not made by Concat");
  if (!io.pasts.every(hasRows)) return refed("its cache is not [batch, heads, tokens, size]");
  if (!io.takes("position_ids")) return refed("it has no position_ids");
  if (config.limitedAttention) return refed("its attention has a window");
  const reference = await probe(refed(""));
  const split = await loadSplit(prepared, io, { reference, options });
  if (split) {
    await session.release();
    return split;
  }
  const owned = new OwnedDecoder(session, io, prepared.newRows) as Decoder;
  const change = difference(await probe(owned), reference);
  // Not the other way around: NaN is no agreement.
  return change <= TOLERANCE ? owned : refed(`its logits would change by ${change}`);
}

/** The graph without its cache's Concats; null if it cannot be made, does not load or computes something else. */
async function loadSplit(
  prepared: PreparedGraph,
  io: GraphIo,
  { reference, options }: { reference: readonly Float32Array[]; options: DecoderOptions },
): Promise<Decoder | null> {
  const bytes = prepared.split();
  if (!bytes) return null;
  try {
    const session = await createSession(bytes, options);
    const owned = new OwnedDecoder(session, io, prepared.newRows) as Decoder;
    if (difference(await probe(owned), reference) <= TOLERANCE) return owned;
    await session.release();
  } catch {
    // A graph of a kind that was not thought of when the rewriting was written.
  }
  return null;
}

/** Largest change of a logit, relative to the largest logit, that a prepared graph may show. */
const TOLERANCE = 1e-3;

function createSession(
  model: string | Uint8Array,
  { intraOpThreads }: DecoderOptions,
): Promise<InferenceSession> {
  const options: InferenceSession.SessionOptions = {
    ...(intraOpThreads > 0 && { intraOpNumThreads: intraOpThreads }),
    logSeverityLevel: 3,
    // Each session has its own pool, whose threads spin after a run and starve the other two models:
    // 55.5 ms a token without this line, 23.0 with it (98M base, 10M experts, two cores).
    extra: { session: { force_spinning_stop: "1" } },
  };
  return typeof model === "string"
    ? InferenceSession.create(model, options)
    : InferenceSession.create(model, options);
}

/** Logits of a prefill, two steps, the second into a bucket with slack, and several tokens at once. */
async function probe(decoder: Decoder): Promise<Float32Array[]> {
  const sequence = decoder.open();
  await decoder.prefill(sequence, [1, 2, 3, 4, 5]);
  const rows: Float32Array[] = [];
  for (const id of [6, 7]) rows.push(...(await decoder.decode([{ sequence, id }])));
  rows.push(...(await decoder.score(sequence, [3, 2, 1])));
  decoder.close(sequence);
  return rows;
}

/** Largest difference of a logit, relative to its row's largest one. */
function difference(rows: readonly Float32Array[], reference: readonly Float32Array[]): number {
  let worst = 0;
  for (const [i, expected] of reference.entries()) {
    let [largest, scale] = [0, 1];
    for (const [id, logit] of expected.entries()) {
      scale = Math.max(scale, Math.abs(logit));
      largest = Math.max(largest, Math.abs(rows[i]![id]! - logit));
    }
    worst = Math.max(worst, largest / scale);
  }
  return worst;
}
