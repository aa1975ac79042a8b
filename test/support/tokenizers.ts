/** Small tokenizers, written as the files of a model folder. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";
import { ModelTokenizer } from "../../worker/engine/model/tokenizer.ts";

export interface TinyTokenizer {
  /** Token texts; a token's id is its index. */
  readonly tokens: readonly string[];
  /** Special tokens among them: decoding leaves them out. */
  readonly special?: readonly string[];
  /** The decoder of tokenizer.json. */
  readonly decoder?: object;
  /** A special token that is added before plain prompts. */
  readonly bos?: string;
}

/** Content of tokenizer.json; prompts are split at spaces. */
export function tokenizerJson({ tokens, special = [], decoder, bos }: TinyTokenizer): string {
  return JSON.stringify({
    version: "1.0",
    normalizer: null,
    pre_tokenizer: { type: "WhitespaceSplit" },
    post_processor: bos === undefined ? null : addFirst(bos, tokens.indexOf(bos)),
    decoder: decoder ?? { type: "Fuse" },
    added_tokens: special.map((content) => ({
      id: tokens.indexOf(content),
      content,
      special: true,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
    })),
    model: {
      type: "WordLevel",
      unk_token: tokens[0],
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
    },
  });
}

function addFirst(token: string, id: number): object {
  const sequence = { Sequence: { id: "A", type_id: 0 } };
  return {
    type: "TemplateProcessing",
    single: [{ SpecialToken: { id: token, type_id: 0 } }, sequence],
    pair: [sequence],
    special_tokens: { [token]: { id: token, ids: [id], tokens: [token] } },
  };
}

/** Contains the folders of one test file; deleted after its tests. */
const root = mkdtempSync(join(tmpdir(), "trimtab-test-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));

/** Writes files into a new temporary folder; names may contain subfolders. */
export function folderOf(files: Readonly<Record<string, string | object>>): string {
  const folder = mkdtempSync(join(root, "folder-"));
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(join(folder, name, ".."), { recursive: true });
    const text = typeof content === "string" ? content : JSON.stringify(content);
    writeFileSync(join(folder, name), text);
  }
  return folder;
}

export function tinyTokenizer(options: TinyTokenizer): ModelTokenizer {
  return new ModelTokenizer(folderOf({ "tokenizer.json": tokenizerJson(options) }), {});
}
