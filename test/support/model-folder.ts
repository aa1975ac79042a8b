/** Model folders and manifest entries, made from the golden vectors' graphs and a tokenizer of numbered words. */
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { EnsembleEntry } from "../../worker/engine/model/manifest.ts";
import { folderOf, tokenizerJson } from "./tokenizers.ts";

export const VECTORS = join(import.meta.dirname, "../vectors");
/** Number of logits of the graphs in vectors/llama. */
export const LOGITS_WIDTH = 128;

export interface ModelFolderOptions {
  /** Token texts by id; by default `word0`, `word1`, ... for each logit. */
  readonly tokens?: readonly string[];
  readonly eos?: number | readonly number[];
  readonly contextTokens?: number;
  readonly chatTemplate?: string;
  /** A name in the graph to replace, and another name of the same length. */
  readonly rename?: readonly [from: string, to: string];
}

export function words(count: number): string[] {
  return Array.from({ length: count }, (_, id) => `word${id}`);
}

/** A folder with a working model of 128 tokens, with the changes of the options. */
export function modelFolder(options: ModelFolderOptions = {}): string {
  const source = join(VECTORS, "llama/base");
  const config = JSON.parse(readFileSync(join(source, "config.json"), "utf8")) as object;
  const folder = folderOf({
    "config.json": { ...config, max_position_embeddings: options.contextTokens ?? 64 },
    "generation_config.json": { eos_token_id: options.eos },
    "tokenizer.json": tokenizerJson({ tokens: options.tokens ?? words(LOGITS_WIDTH) }),
    ...(options.chatTemplate !== undefined && { "chat_template.jinja": options.chatTemplate }),
  });
  mkdirSync(join(folder, "onnx"));
  const [from, to] = [join(source, "onnx/model.onnx"), join(folder, "onnx/model.onnx")];
  if (options.rename) writeFileSync(to, renamed(readFileSync(from), options.rename));
  else copyFileSync(from, to);
  return folder;
}

/** A copy of a model folder in test/vectors, with changes to config.json. */
export function copyOf(name: string, config: object = {}): string {
  const source = join(VECTORS, name);
  const own = JSON.parse(readFileSync(join(source, "config.json"), "utf8")) as object;
  const folder = folderOf({ "config.json": { ...own, ...config }, "onnx/.keep": "" });
  copyFileSync(join(source, "onnx/model.onnx"), join(folder, "onnx/model.onnx"));
  return folder;
}

/** A copy of a model folder in test/vectors that runs as exported, because its config.json has chunks of attention. */
export const passthroughCopyOf = (name: string) => copyOf(name, { attention_chunk_size: 8 });

/** A manifest entry with one model folder in all three roles, with the changes of a test. */
export function ensembleEntry(
  folder: string,
  changes: Partial<Record<"base" | "expert" | "antiexpert", string>> &
    Partial<{
      id: string;
      alpha: number;
      alphaMax: number;
    }> = {},
): EnsembleEntry {
  const model = (path = folder) => ({ path, dtype: "fp32" }) as const;
  return {
    id: changes.id ?? "tiny",
    description: "",
    alpha: changes.alpha ?? 1,
    alphaMax: changes.alphaMax ?? 2,
    base: model(changes.base),
    expert: model(changes.expert),
    antiexpert: model(changes.antiexpert),
  };
}

/** In an encoded graph a name is preceded by its length, so only a name of the same length can replace it. */
function renamed(graph: Buffer, [from, to]: readonly [string, string]): Buffer {
  if (from.length !== to.length) throw new Error(`${from} and ${to} have different lengths`);
  return Buffer.from(graph.toString("latin1").replaceAll(from, to), "latin1");
}
