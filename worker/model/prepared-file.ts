/**
 * What preparing a graph came to, kept beside it: `model.onnx` -> `model.prepared.onnx`. That is an ONNX model of its own
 * and small, because the weights stay in the original's files; of a graph that cannot be prepared it says why, no more.
 */
import { createHash, randomUUID } from "node:crypto";
import { createReadStream, readFileSync } from "node:fs";
import { readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { env } from "onnxruntime-node";
import * as v from "valibot";
import { property, readProperty } from "./onnx-wire.ts";

/** Code that what is kept depends on: when it changes, all is made again. */
const CODE = [
  "fused-attention.ts",
  "load-graph.ts",
  "measure.ts",
  "onnx-wire.ts",
  "prepare.ts",
  "prepared-file.ts",
  "probe.ts",
  "rotary.ts",
  "simplify.ts",
  "split-attention.ts",
].map((name) => readFileSync(join(import.meta.dirname, name), "utf8"));
const PROPERTY = "trimtab";

const Preparation = v.object({
  /** How it was prepared (prepare.ts), or plain: it runs as it was exported. */
  form: v.picklist(["split", "new rows", "fused", "plain"]),
  /** What was measured (probe.ts); null if it was not compared, inside if it was no number. */
  change: v.nullable(v.object({ alone: v.nullable(v.number()), together: v.nullable(v.number()) })),
  /** Why it is plain. */
  why: v.nullable(v.string()),
  /** `past_key_values.*` input -> name of the output with its new rows. */
  newRows: v.record(v.string(), v.string()),
});

export interface Prepared extends Readonly<v.InferOutput<typeof Preparation>> {
  /** The prepared model; empty where the original runs as it is. */
  readonly bytes: Uint8Array;
}

/** What tells whether a kept preparation is of this very graph, its config, this onnxruntime and this code. */
export async function preparationKey(file: string, config: object): Promise<string> {
  const hash = createHash("sha256");
  hash.update(JSON.stringify([CODE, env.versions.node, config]));
  await pipeline(createReadStream(file), hash);
  return hash.digest("hex");
}

const preparedName = (file: string) => `${file.replace(/\.onnx$/, "")}.prepared.onnx`;

/** Null if there is none, or one that is not of this key. */
export async function readPrepared(file: string, key: string): Promise<Prepared | null> {
  try {
    const bytes = await readFile(preparedName(file));
    const about = JSON.parse(readProperty(bytes, PROPERTY) ?? "null") as { key?: string } | null;
    if (about?.key !== key) return null;
    return { ...v.parse(Preparation, about), bytes };
  } catch {
    // Not there, or nothing that was written below.
    return null;
  }
}

/** Keeps a preparation; others see the whole file or none. Throws where the folder cannot be written. */
export async function writePrepared(file: string, key: string, prepared: Prepared): Promise<void> {
  const { bytes, ...about } = prepared;
  const temporary = `${preparedName(file)}.${randomUUID()}`;
  try {
    const tail = property(PROPERTY, JSON.stringify({ key, ...about }));
    await writeFile(temporary, Buffer.concat([bytes, tail]));
    await rename(temporary, preparedName(file));
  } finally {
    await rm(temporary, { force: true });
  }
}
