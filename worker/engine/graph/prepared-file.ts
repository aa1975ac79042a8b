/**
 * Stores the result of preparing a graph in a file beside it: `model.onnx` -> `model.prepared.onnx`. The file is a small ONNX
 * model, because the weights stay in the original's files. If a graph cannot be prepared, the file has only the reason. Where
 * the graph's folder cannot be written, the file is in the worker's cache folder, under its key.
 */
import { createHash, randomUUID } from "node:crypto";
import { createReadStream, existsSync } from "node:fs";
import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { env } from "../onnxruntime/onnxruntime.ts";
import * as v from "valibot";
import { inspectGraph } from "./inspect.ts";
import { metadataField, readMetadata } from "./onnx-wire.ts";
import { realNames } from "./real-names.ts";

/**
 * Version of the preparation. A stored file of another version is ignored and the graph is prepared again. Raise it with
 * every change in this folder or in model/load-graph.ts after which
 * - the same graph gets other nodes, outputs or metadata (rewriting, simplifying, the members of `PreparedGraphInfo`), or
 * - another rewrite may be chosen (the probe, its tolerances, the order of the rewrites, the reasons not to prepare).
 * A new onnxruntime needs no new version: its own version is part of the key.
 */
export const PREPARATION_VERSION = 12;
/** Key of the metadata entry with the JSON of `PreparedGraphInfo`. */
const METADATA_KEY = "trimtab";

const PreparedGraphInfo = v.object({
  /** The rewrite (prepare.ts); "original" if the graph runs as it was exported. */
  variant: v.picklist(["split", "concat", "fused", "original"]),
  /** Result of the comparison with the original (probe.ts); null without a comparison. NaN is stored as null. */
  logitsChange: v.nullable(
    v.object({ single: v.nullable(v.number()), batched: v.nullable(v.number()) }),
  ),
  /** Why the variant is "original"; null for the others. */
  fallbackReason: v.nullable(v.string()),
  /** Whether the tokens of a sequence must be at the end of its cache rows (decoder/graph-io.ts); false for "fused" and "original". */
  countsEntries: v.boolean(),
  /** Result of `hasExactRows` (row-probe.ts); false also without that probe. */
  hasExactRows: v.boolean(),
  /** `past_key_values.*` input -> name of the output with the new tokens' keys or values. */
  newKvOutputs: v.record(v.string(), v.string()),
});

export interface PreparedGraph extends Readonly<v.InferOutput<typeof PreparedGraphInfo>> {
  /** The prepared model; empty if the variant is "original". */
  readonly bytes: Uint8Array;
}

/**
 * Identifies a graph file, its config, the version of onnxruntime and the version of the preparation; and the names of the files with
 * weights, because a prepared graph has them. In a cache of blobs they are hashes, and the folder is the same for other weights.
 * Files that keep their names are read from the folder of the graph that is loaded.
 */
export async function preparationKey(
  file: string,
  config: object,
  version = PREPARATION_VERSION,
): Promise<string> {
  const hash = createHash("sha256");
  const { name, externalNames } = realNames(file, inspectGraph(file));
  const names = [name, ...externalNames];
  hash.update(JSON.stringify([version, env.versions.node, config, names]));
  await pipeline(createReadStream(file), hash);
  return hash.digest("hex");
}

const preparedFileName = (file: string) => `${file.replace(/\.onnx$/, "")}.prepared.onnx`;

/** Whether a result may be stored for the graph in `file`: one of another version, or in the cache folder one of another graph. */
export const mayBePrepared = (file: string, cacheFolder: string | null) =>
  existsSync(preparedFileName(file)) || (cacheFolder !== null && existsSync(cacheFolder));

/**
 * The stored result for the graph in `file`; null if none has this key, or if the stored file is broken.
 * @param cacheFolder where it may be instead of the graph's folder; null for none
 */
export async function readPrepared(
  file: string,
  key: string,
  cacheFolder: string | null = null,
): Promise<PreparedGraph | null> {
  const beside = await readStored(preparedFileName(file), key);
  return (
    beside ?? (cacheFolder === null ? null : readStored(cachedFileName(cacheFolder, key), key))
  );
}

const cachedFileName = (cacheFolder: string, key: string) =>
  join(cacheFolder, `${key}.prepared.onnx`);

async function readStored(file: string, key: string): Promise<PreparedGraph | null> {
  try {
    const bytes = await readFile(file);
    const stored = JSON.parse(readMetadata(bytes, METADATA_KEY) ?? "null") as {
      key?: string;
    } | null;
    if (stored?.key !== key) return null;
    return { ...v.parse(PreparedGraphInfo, stored), bytes };
  } catch {
    // The file does not exist, or `writePrepared` did not write it.
    return null;
  }
}

/**
 * Stores the result for the graph in `file`. Other processes see the whole file or none.
 * @param cacheFolder where it is stored if the graph's folder cannot be written; null for nowhere
 * @throws Error if it cannot be written
 */
export async function writePrepared(
  file: string,
  key: string,
  prepared: PreparedGraph,
  cacheFolder: string | null = null,
): Promise<void> {
  const { bytes, ...info } = prepared;
  const metadata = metadataField(METADATA_KEY, JSON.stringify({ key, ...info }));
  const content = Buffer.concat([bytes, metadata]);
  try {
    await writeWhole(preparedFileName(file), content);
  } catch (error) {
    if (cacheFolder === null) throw error;
    await writeWhole(cachedFileName(cacheFolder, key), content);
  }
}

async function writeWhole(file: string, content: Uint8Array): Promise<void> {
  const temporary = `${file}.${randomUUID()}`;
  try {
    await mkdir(dirname(file), { recursive: true });
    await writeFile(temporary, content);
    await rename(temporary, file);
  } finally {
    await rm(temporary, { force: true });
  }
}
