import { join } from "node:path";
import { expect, test } from "vitest";
import { readManifest } from "../../../../worker/engine/model/manifest.ts";
import { folderOf } from "../../../support/tokenizers.ts";

const MODELS = { base: { path: "b" }, expert: { path: "e" }, antiexpert: { path: "../a" } };

function manifest(...ensembles: object[]): string {
  return join(folderOf({ "ensembles.json": { ensembles } }), "ensembles.json");
}

test("paths are relative to the manifest, and missing fields get defaults", () => {
  const file = manifest({ id: "x", ...MODELS, base: { path: "b", chatTemplate: "chat.jinja" } });
  const folder = join(file, "..");
  expect(readManifest(file).ensembles).toEqual([
    {
      id: "x",
      description: "",
      alpha: 1,
      alphaMax: 2,
      base: { path: join(folder, "b"), dtype: "fp32", chatTemplate: join(folder, "chat.jinja") },
      expert: { path: join(folder, "e"), dtype: "fp32" },
      antiexpert: { path: join(folder, "../a"), dtype: "fp32" },
    },
  ]);
});

test("an expert may be an adapter of the antiexpert: it has its graph and texts, unless it says otherwise", () => {
  const antiexpert = { path: "a", dtype: "int8", promptTemplate: "{{ prompt }}" };
  const folder = folderOf({
    "ensembles.json": {
      ensembles: [
        { id: "x", ...MODELS, antiexpert, expert: { adapter: "legal" } },
        { id: "y", ...MODELS, antiexpert, expert: { adapter: "chat", promptTemplate: "!" } },
      ],
    },
    "chat/chat_template.jinja": "",
  });
  const [x, y] = readManifest(join(folder, "ensembles.json")).ensembles;
  expect(x!.expert).toEqual({ ...x!.antiexpert, adapter: join(folder, "legal") });
  expect(y!.expert).toEqual({
    ...y!.antiexpert,
    promptTemplate: "!",
    chatTemplate: join(folder, "chat/chat_template.jinja"),
    adapter: join(folder, "chat"),
  });
});

const SERVER = { url: "http://gpu:8080/llm", api: "llama.cpp", model: "big", tokenizer: "t" };

test("a base may be a server, with the folder of its tokenizer and a file with its key", () => {
  const file = manifest({ id: "x", ...MODELS, base: { ...SERVER, key: { file: "key" } } });
  const folder = join(file, "..");
  expect(readManifest(file).ensembles[0]!.base).toMatchObject({
    ...SERVER,
    path: join(folder, "t"),
    key: { file: join(folder, "key") },
    patienceSeconds: 120,
  });
});

test.each<[string, object[], string]>([
  ["an unknown API", [{ id: "x", ...MODELS, base: { ...SERVER, api: "x" } }], "0.base.api: "],
  [
    "a password in a URL",
    [{ id: "x", ...MODELS, base: { ...SERVER, url: "http://a:b@gpu" } }],
    "0.base.url: The URL must not contain credentials",
  ],
  ["no ensemble", [], "ensembles: "],
  [
    "two ensembles with the same id",
    [
      { id: "x", ...MODELS },
      { id: "x", ...MODELS },
    ],
    "same id",
  ],
  ["an ensemble without an expert", [{ id: "x", ...MODELS, expert: undefined }], "0.expert: "],
  [
    "an adapter with a graph of its own",
    [{ id: "x", ...MODELS, expert: { adapter: "a", path: "e" } }],
    "0.expert.path: ",
  ],
  [
    "an antiexpert that is an adapter",
    [{ id: "x", ...MODELS, antiexpert: { adapter: "a" } }],
    "0.antiexpert",
  ],
  ["an unknown member", [{ id: "x", ...MODELS, alphaMin: 0 }], "ensembles.0.alphaMin: "],
  [
    "an unknown weight format",
    [{ id: "x", ...MODELS, base: { path: "b", dtype: "q1" } }],
    "dtype: ",
  ],
  ["an alpha above the public limit", [{ id: "x", ...MODELS, alpha: 5 }], "ensembles.0.alpha: "],
  ["a negative alpha", [{ id: "x", ...MODELS, alpha: -1 }], "ensembles.0.alpha: "],
])("%s is refused with file, field and reason", (_, ensembles, reason) => {
  const file = manifest(...ensembles);
  expect(() => readManifest(file)).toThrow(file);
  expect(() => readManifest(file)).toThrow(reason);
});

test("a missing or broken file is refused with its name", () => {
  expect(() => readManifest("/nowhere/ensembles.json")).toThrow("/nowhere/ensembles.json: ENOENT");
  const file = join(folderOf({ "broken.json": "{" }), "broken.json");
  expect(() => readManifest(file)).toThrow(`${file}: `);
});
