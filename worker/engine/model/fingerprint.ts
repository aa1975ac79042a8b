/**
 * Fingerprints: which models and which ensembles are the same on two workers. The same fingerprint means the same logits for the
 * same request, whatever the paths of the folders are. A worker continues only those jobs of another one that were started
 * with the same fingerprint.
 */
import { createHash } from "node:crypto";
import { closeSync, existsSync, fstatSync, openSync, readSync } from "node:fs";
import { join } from "node:path";
import { ofAdapter } from "../graph/adapter-error.ts";
import type { GraphFacts } from "../graph/inspect.ts";
import { PREPARATION_VERSION } from "../graph/prepared-file.ts";
import { findGraph, type GraphChoice } from "./graph-files.ts";
import { ADAPTER_FILES } from "./lora-adapter.ts";
import type { ModelEntry } from "./manifest.ts";

/** A file is hashed in blocks of this size. */
const BLOCK_BYTES = 64 * 1024;
/**
 * Blocks of a file that are hashed, evenly spread over it: at most 64 MiB, because reading 16 GB of weights would take a
 * start half a minute. Other weights of the same architecture differ in every block.
 */
const BLOCKS_MAX = 1_024;

/** Files of a model folder that decide how the model computes. */
const CONFIG_FILES = ["config.json", "generation_config.json"];
/** Files of a model folder that decide how text becomes tokens. */
const TEXT_FILES = ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"];

/**
 * Fingerprint of a model without its tokenizer: its config, its graph and the graph's external weights (SHA-256, hex). If its
 * activations are quantized, also the version of the preparation, which changes their rounding and so the logits.
 * @throws Error if a file cannot be read
 */
export function modelFingerprint(
  choice: GraphChoice,
  {
    externalFiles,
    quantizesActivations,
  }: Pick<GraphFacts, "externalFiles" | "quantizesActivations">,
  version = PREPARATION_VERSION,
): string {
  const { path, dtype } = choice;
  const graph = findGraph(choice);
  const hasConfig = existsSync(join(path, "config.json"));
  const names = hasConfig ? CONFIG_FILES : [...CONFIG_FILES, "genai_config.json"];
  const files = names.map((name) => join(path, name));
  const weights = externalFiles.map((name) => join(graph, "..", name));
  const hashes = [...files, graph, ...weights].map(fileFingerprint);
  return sha256([dtype, ...hashes, ...(quantizesActivations ? [`prepared:${version}`] : [])]);
}

/** Fingerprint of an adapter's files. @throws AdapterError if one cannot be read */
export function adapterFingerprint(folder: string): string {
  const { config, weights } = ADAPTER_FILES;
  return ofAdapter(folder, () =>
    sha256([config, weights].map((name) => fileFingerprint(join(folder, name)))),
  );
}

/**
 * Fingerprint of a model with an adapter. The other adapters of its graph are not part of it, because they change no bit
 * (../graph/adapter-columns.ts): one can be added while jobs of the others run on.
 * @param model that of the model without adapters
 */
export const adaptedFingerprint = (model: string, adapter: string) =>
  sha256(["adapter", model, adapter]);

/**
 * Fingerprint of an ensemble (SHA-256, hex).
 * @param models of base, expert and antiexpert: the manifest's entry and its `modelFingerprint`
 * @param toolFormat of the manifest, if it has one: prompts depend on it
 */
export function ensembleFingerprint(
  models: readonly {
    readonly entry: Pick<
      ModelEntry,
      "path" | "chatTemplate" | "promptTemplate" | "chatTemplateKwargs"
    >;
    readonly fingerprint: string;
  }[],
  toolFormat?: string,
): string {
  const parts = models.flatMap(({ entry, fingerprint }) => [
    fingerprint,
    ...TEXT_FILES.map((name) => fileFingerprint(join(entry.path, name))),
    entry.chatTemplate === undefined ? null : fileFingerprint(entry.chatTemplate),
    entry.promptTemplate ?? null,
    ...(entry.chatTemplateKwargs ? [JSON.stringify(entry.chatTemplateKwargs)] : []),
  ]);
  return sha256(toolFormat === undefined ? parts : [...parts, toolFormat]);
}

/** Size and hash of a file: of the whole file, or of blocks of a large one. Null if the file does not exist. */
function fileFingerprint(file: string): string | null {
  if (!existsSync(file)) return null;
  const hash = createHash("sha256");
  const fd = openSync(file, "r");
  try {
    const { size } = fstatSync(fd);
    const blocks = Math.ceil(size / BLOCK_BYTES);
    const block = new Uint8Array(BLOCK_BYTES);
    const hashed = Math.min(blocks, BLOCKS_MAX);
    for (let i = 0; i < hashed; i++) {
      // The first block and the last one are among them.
      const index = hashed === 1 ? 0 : Math.round((i * (blocks - 1)) / (hashed - 1));
      const length = readSync(fd, block, 0, BLOCK_BYTES, index * BLOCK_BYTES);
      hash.update(block.subarray(0, length));
    }
    return `${size}:${hash.digest("hex")}`;
  } finally {
    closeSync(fd);
  }
}

const sha256 = (parts: readonly (string | null)[]) =>
  createHash("sha256").update(JSON.stringify(parts)).digest("hex");
