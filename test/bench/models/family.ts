/**
 * The model families of the bench: the demo family, and the demo family inflated to about 98M and 10M parameters. Inflated
 * models, and the bases as files for llama.cpp, are stored in .trimtab/bench.
 */
import { createHash } from "node:crypto";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { writeGguf } from "./gguf.ts";
import { inflate, rotaryFrequencies, type ModelShape } from "./inflate.ts";
import { readGraph, writeModel, type Graph, type ValueInfo } from "./onnx.ts";
import { quantize } from "./quantize.ts";

/** Raise this when the code in this folder builds other files: families of another version are built again. */
const BUILD_VERSION = 3;

const here = dirname(fileURLToPath(import.meta.url));
const DEMO = join(here, "../../../infra/models");
export const CACHE = join(here, "../../../.trimtab/bench");

export const ROLES = ["base", "expert", "antiexpert"] as const;
export type Role = (typeof ROLES)[number];
export const FAMILY_NAMES = ["demo", "inflated"] as const;
export type FamilyName = (typeof FAMILY_NAMES)[number];
/** Model folder of each role. */
export type Family = Readonly<Record<Role, string>>;

/** The ensemble gsm-mini, whose answers are long enough to measure. */
export const SOURCES: Family = {
  base: join(DEMO, "base"),
  expert: join(DEMO, "gsm-expert"),
  antiexpert: join(DEMO, "antiexpert"),
};
/** 98.0M and 10.0M parameters, the embedding of 2,048 tokens included. */
const LARGE = { layers: 12, width: 768, heads: 12, headSize: 64, mlpWidth: 2464 };
const SMALL = { layers: 6, width: 320, heads: 5, headSize: 64, mlpWidth: 1200 };
/** The bench needs 4,096 tokens and some more. The demo family was trained for 1,024; beyond that its output is poor, but costs the same. */
const CONTEXT_TOKENS = 4608;
const COPIED = [
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "chat_template.jinja",
  "generation_config.json",
];

/** Folders of a family; an inflated family is built first if it is missing. */
export function family(name: FamilyName): Family {
  if (name === "demo") return SOURCES;
  const folder = join(CACHE, `inflated-${buildKey()}`);
  const folderOf = (role: Role) => join(folder, role);
  for (const role of ROLES) if (!existsSync(folderOf(role))) build(role, folderOf(role));
  return { base: folderOf("base"), expert: folderOf("expert"), antiexpert: folderOf("antiexpert") };
}

function build(role: Role, folder: string): void {
  process.stderr.write(`models: inflating the ${role} (once)\n`);
  const source = SOURCES[role];
  const config = readConfig(role);
  const to = role === "base" ? LARGE : SMALL;
  const unfinished = `${folder}.unfinished`;
  rmSync(unfinished, { recursive: true, force: true });
  mkdirSync(join(unfinished, "onnx"), { recursive: true });
  const graph = inflate(readGraph(join(source, "onnx/model.onnx")), modelShape(config), to);
  const io = graphIo(to, Number(config["vocab_size"]));
  const write = (file: string, graph: Graph) =>
    writeModel(join(unfinished, "onnx", file), { ...graph, ...io }, 18);
  write("model.onnx", graph);
  write("model_quantized.onnx", quantize(graph));
  for (const file of COPIED) copyFileSync(join(source, file), join(unfinished, file));
  const inflated = {
    ...config,
    hidden_size: to.width,
    head_dim: to.headSize,
    intermediate_size: to.mlpWidth,
    num_attention_heads: to.heads,
    num_key_value_heads: to.heads,
    num_hidden_layers: to.layers,
    max_position_embeddings: CONTEXT_TOKENS,
  };
  writeFileSync(join(unfinished, "config.json"), JSON.stringify(inflated, null, 2));
  renameSync(unfinished, folder);
}

/** The base as a file for llama.cpp, in float32 or Q8_0; it is written first if it is missing. */
export function ggufFile(name: FamilyName, dtype: "fp32" | "int8"): string {
  const file = join(CACHE, `${name}-base-${buildKey()}-${dtype}.gguf`);
  if (existsSync(file)) return file;
  process.stderr.write(`models: writing ${file} (once)\n`);
  const config = readConfig("base");
  const from = modelShape(config);
  const to = name === "demo" ? from : LARGE;
  const { weights } = inflate(readGraph(join(SOURCES.base, "onnx/model.onnx")), from, to);
  mkdirSync(CACHE, { recursive: true });
  writeGguf(`${file}.unfinished`, weights, {
    shape: to,
    scoreHeadSize: from.headSize,
    vocabSize: Number(config["vocab_size"]),
    contextTokens: CONTEXT_TOKENS,
    epsilon: (Number(config["rms_norm_eps"]) * from.width) / to.width,
    frequencies: rotaryFrequencies(from, to),
    quantized: dtype === "int8",
  });
  renameSync(`${file}.unfinished`, file);
  return file;
}

/** The manifest of a family, with the ensemble `bench`. */
export function writeManifest(name: FamilyName, dtype: "fp32" | "int8"): string {
  const folders = family(name);
  const model = (role: Role) => ({ path: folders[role], dtype });
  const ensemble = {
    id: "bench",
    base: model("base"),
    expert: model("expert"),
    antiexpert: model("antiexpert"),
  };
  mkdirSync(CACHE, { recursive: true });
  const file = join(CACHE, `${name}-${dtype}.json`);
  writeFileSync(file, JSON.stringify({ ensembles: [ensemble] }));
  return file;
}

export function readConfig(role: Role): Record<string, unknown> {
  return JSON.parse(readFileSync(join(SOURCES[role], "config.json"), "utf8")) as Record<
    string,
    unknown
  >;
}

export function modelShape(config: Record<string, unknown>): ModelShape {
  return {
    layers: Number(config["num_hidden_layers"]),
    width: Number(config["hidden_size"]),
    heads: Number(config["num_attention_heads"]),
    headSize: Number(config["head_dim"]),
    mlpWidth: Number(config["intermediate_size"]),
  };
}

/** Inputs and outputs with the names of Hugging Face exports. */
export function graphIo(
  { layers, heads, headSize }: ModelShape,
  vocabSize: number,
): { inputs: ValueInfo[]; outputs: ValueInfo[] } {
  const [batch, count, past] = ["batch_size", "sequence_length", "past_sequence_length"];
  const all = `${past} + ${count}`;
  const caches = (prefix: string, tokens: string): ValueInfo[] =>
    Array.from({ length: layers }, (_, i) =>
      ["key", "value"].map((kind): ValueInfo => ({
        name: `${prefix}.${i}.${kind}`,
        type: "float",
        shape: [batch, heads, tokens, headSize],
      })),
    ).flat();
  return {
    inputs: [
      { name: "input_ids", type: "int64", shape: [batch, count] },
      { name: "attention_mask", type: "int64", shape: [batch, all] },
      { name: "position_ids", type: "int64", shape: [batch, count] },
      ...caches("past_key_values", past),
    ],
    outputs: [
      { name: "logits", type: "float", shape: [batch, count, vocabSize] },
      ...caches("present", all),
    ],
  };
}

/** Identifies the version of the building code and the source models. */
function buildKey(): string {
  const hash = createHash("sha256").update(String(BUILD_VERSION));
  for (const role of ROLES) hash.update(readFileSync(join(SOURCES[role], "onnx/model.onnx")));
  return hash.digest("hex").slice(0, 8);
}
