/**
 * A model with a script, for tests of tools with clients: it calls a function and, after the function's result, answers. It is
 * a real graph with a real tokenizer and chat template. Its next token depends on its last one only, and the template ends
 * the prompt with a token that begins the right line of the script.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Writer } from "protobufjs/minimal.js";
import {
  DATA_TYPE,
  lengthDelimitedTag,
  TENSOR_PROTO,
  varintTag,
} from "../../worker/engine/graph/onnx-proto.ts";
import { BYTE_LEVEL_BYTES } from "../../worker/engine/model/token-text.ts";
import { TOOL_FORMATS, writeCalls } from "../../shared/tools/formats.ts";
import { encodeModel, node, valueInfo } from "./tiny-graph.ts";

/** The `model` of requests. */
export const SCRIPTED_MODEL = "scripted";

export interface Script {
  /** By the name of a function: the arguments with which the model calls it. A request has at most one of these functions. */
  readonly calls: Readonly<Record<string, object>>;
  /** Functions that are called only after the result of another one: their call is the answer. */
  readonly last?: readonly string[];
  /** The answer without tools, and after the result of a function. */
  readonly answer: string;
}

/** Writes the model and a manifest into a folder. @returns the path of the manifest */
export function writeScriptedModel(folder: string, script: Script): string {
  const used = new Set([...BYTES, " ", "\n"]);
  const calls = Object.entries(script.calls).map(([name, args]) => [
    startOf(name),
    ...pieces(writeCalls(TOOL_FORMATS.hermes, [{ name, arguments: JSON.stringify(args) }]), used),
  ]);
  const lines = [...calls, [ANSWER, ...pieces(script.answer, used)]];
  const texts = [...BYTES, END, ...lines.flat()];
  const next = texts.map(() => BYTES.length);
  let id = BYTES.length + 1;
  for (const line of lines) {
    for (const [at] of line.entries())
      next[id + at] = at + 1 < line.length ? id + at + 1 : BYTES.length;
    id += line.length;
  }
  const starts = lines.map(([start]) => start!);
  const model = join(folder, "model");
  mkdirSync(join(model, "onnx"), { recursive: true });
  const write = (name: string, content: string | Uint8Array | object) => {
    const isData = typeof content === "string" || content instanceof Uint8Array;
    writeFileSync(join(model, name), isData ? content : JSON.stringify(content));
  };
  write("config.json", { max_position_embeddings: 16_384, eos_token_id: BYTES.length });
  write("tokenizer.json", tokenizer(texts, [END, ...starts]));
  write("chat_template.jinja", template(script));
  write("onnx/model.onnx", graph(next));
  const manifest = join(folder, "ensembles.json");
  const role = { path: "model" };
  const ensemble = { id: SCRIPTED_MODEL, base: role, expert: role, antiexpert: role };
  writeFileSync(manifest, JSON.stringify({ ensembles: [ensemble] }));
  return manifest;
}

const BYTES = [...BYTE_LEVEL_BYTES.keys()];
const END = "<|end|>";
const ANSWER = "<|answer|>";
const PIECE_CHARS = 6;
const startOf = (name: string) => `<|call ${name}|>`;

/** Pieces of a few characters, each one token, and no two the same: each is followed by another. */
function pieces(text: string, used: Set<string>): string[] {
  const found: string[] = [];
  for (let at = 0; at < text.length;) {
    let end = Math.min(at + PIECE_CHARS, text.length);
    while (used.has(text.slice(at, end)) && end < text.length) end++;
    let piece = text.slice(at, end);
    // The end of the text may be a known piece: it is joined to the piece before it.
    if (used.has(piece)) piece = found.pop()! + piece;
    used.add(piece);
    found.push(piece);
    at = end;
  }
  return found;
}

function tokenizer(texts: readonly string[], special: readonly string[]): object {
  const toEntry = new Map([...BYTE_LEVEL_BYTES].map(([character, byte]) => [byte, character]));
  const entries = texts.map((text, id) => {
    if (id < BYTES.length || special.includes(text)) return text;
    return Array.from(new TextEncoder().encode(text), (byte) => toEntry.get(byte)!).join("");
  });
  return {
    version: "1.0",
    normalizer: null,
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, use_regex: false },
    post_processor: null,
    decoder: { type: "ByteLevel" },
    added_tokens: special.map((content) => ({
      id: texts.indexOf(content),
      content,
      special: true,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
    })),
    model: {
      type: "BPE",
      vocab: Object.fromEntries(entries.map((entry, id) => [entry, id])),
      merges: [],
      unk_token: null,
    },
  };
}

/** Renders tools as Hermes does. The prompt ends with the token that begins the line: a call, or the answer. */
function template({ calls, last = [] }: Script): string {
  const names = Object.keys(calls);
  const first = names.filter((name) => !last.includes(name));
  const choose = (from: readonly string[]) =>
    from.map(
      (name) =>
        `{%- if tool.function.name == '${name}' %}{%- set line.start = '${startOf(name)}' %}{%- endif %}`,
    );
  return `{%- set line = namespace(start='${ANSWER}') %}
{%- for tool in tools or [] %}{{ tool | tojson }}
{%- if messages[-1].role == 'tool' %}${choose(last).join("")}{%- else %}${choose(first).join("")}{%- endif %}
{%- endfor %}
{%- for m in messages %}
[{{ m.role }}]{{ m.content or '' }}
{%- for call in m.tool_calls or [] %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor %}
{%- endfor %}
{%- if add_generation_prompt %}{{ line.start }}{% endif %}`;
}

/** The token after each token, as a table. The KV cache holds the ids, because a decoder has one. */
function graph(next: readonly number[]): Uint8Array {
  const float = DATA_TYPE.float;
  const wide = ["batch", 1, "past", 2] as const;
  return encodeModel({
    nodes: [
      node("Gather", ["next", "input_ids"], "chosen"),
      node("OneHot", ["chosen", "count", "values"], "logits"),
      node("Cast", ["input_ids"], "id", ["to", float]),
      node("Unsqueeze", ["id"], "row", ["axes", [1, 3]]),
      node("Concat", ["row", "row"], "rows", ["axis", 3]),
      node("Concat", ["past_key_values.0.key", "rows"], "present.0.key", ["axis", 2]),
    ],
    initializers: [
      tensor("next", DATA_TYPE.int64, [next.length], new BigInt64Array(next.map(BigInt))),
      tensor("count", DATA_TYPE.int64, [1], new BigInt64Array([BigInt(next.length)])),
      tensor("values", float, [2], new Float32Array([0, 50])),
    ],
    inputs: [
      valueInfo("input_ids", DATA_TYPE.int64, ["batch", "tokens"]),
      valueInfo("attention_mask", DATA_TYPE.int64, ["batch", "total"]),
      valueInfo("position_ids", DATA_TYPE.int64, ["batch", "tokens"]),
      valueInfo("past_key_values.0.key", float, wide),
    ],
    outputs: [
      valueInfo("present.0.key", float, wide),
      valueInfo("logits", float, ["batch", "tokens", next.length]),
    ],
  });
}

/** An encoded TensorProto. */
function tensor(
  name: string,
  type: number,
  dims: readonly number[],
  values: BigInt64Array | Float32Array,
): Uint8Array {
  const writer = Writer.create();
  for (const size of dims) writer.uint32(varintTag(TENSOR_PROTO.dims)).uint32(size);
  writer.uint32(varintTag(TENSOR_PROTO.dataType)).uint32(type);
  writer.uint32(lengthDelimitedTag(TENSOR_PROTO.name)).string(name);
  const bytes = new Uint8Array(values.buffer);
  return writer.uint32(lengthDelimitedTag(TENSOR_PROTO.rawData)).bytes(bytes).finish();
}
