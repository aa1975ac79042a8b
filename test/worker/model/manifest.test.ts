import { join } from "node:path";
import { expect, test } from "vitest";
import { readManifest } from "../../../worker/model/manifest.ts";
import { folderOf } from "../../support/tokenizers.ts";

const MODELS = { base: { path: "b" }, expert: { path: "e" }, antiexpert: { path: "../a" } };

function manifest(...ensembles: object[]): string {
  return join(folderOf({ "ensembles.json": { ensembles } }), "ensembles.json");
}

test("paths are relative to the manifest, and defaults are filled in", () => {
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

test.each<[string, object[], string]>([
  ["no ensemble", [], "ensembles: "],
  [
    "a second ensemble of the same id",
    [
      { id: "x", ...MODELS },
      { id: "x", ...MODELS },
    ],
    "same id",
  ],
  ["an ensemble without an expert", [{ id: "x", ...MODELS, expert: undefined }], "0.expert: "],
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

test("a file that is missing or not JSON is refused with its name", () => {
  expect(() => readManifest("/nowhere/ensembles.json")).toThrow("/nowhere/ensembles.json: ENOENT");
  const file = join(folderOf({ "broken.json": "{" }), "broken.json");
  expect(() => readManifest(file)).toThrow(`${file}: `);
});
