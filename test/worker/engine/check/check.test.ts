import { copyFileSync, readFileSync, renameSync, truncateSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { expect, test } from "vitest";
import { checkManifest } from "../../../../worker/engine/check/check.ts";
import { checkMemory } from "../../../../worker/engine/check/memory.ts";
import { checkGraph } from "../../../../worker/engine/check/graph.ts";
import type { EnsembleReport, Problem } from "../../../../worker/engine/check/report.ts";
import { preparationKey, writePrepared } from "../../../../worker/engine/graph/prepared-file.ts";
import { findGraph, type Dtype } from "../../../../worker/engine/model/graph-files.ts";
import { readConfig } from "../../../../worker/engine/model/model-config.ts";
import { prepareDecoder } from "../../../../worker/engine/model/model-folder.ts";
import { adapterFolder } from "../../../support/adapters.ts";
import { roundedGraph } from "../../../support/bfloat16-graph.ts";
import { mergedGraph, tiedGraph } from "../../../support/changed-graph.ts";
import {
  copyOf,
  LOGITS_WIDTH,
  modelFolder,
  passthroughCopyOf,
  VECTORS,
  words,
} from "../../../support/model-folder.ts";
import { folderOf } from "../../../support/tokenizers.ts";

const DOWN_PROJ = { "model.layers.0.mlp.down_proj": [64, 32] } as const;
const RESOURCES = { slots: 8, kvCacheMib: 64, prefixCacheMib: 8, memoryBytes: 2 ** 32 };

/** Checks a manifest with these models. */
function check(
  {
    base,
    expert = base,
    antiexpert = base,
  }: { base: string; expert?: string; antiexpert?: string },
  { ensemble = {}, resources = RESOURCES } = {},
) {
  const [b, e, a] = [base, expert, antiexpert].map((path) => ({ path }));
  const entry = { id: "tiny", base: b, expert: e, antiexpert: a, ...ensemble };
  const folder = folderOf({ "ensembles.json": { ensembles: [entry] } });
  return checkManifest(join(folder, "ensembles.json"), resources);
}

const messages = (problems: readonly Problem[], severity: Problem["severity"]) =>
  problems.flatMap((problem) =>
    problem.severity === severity ? [`${problem.role ?? "all"}: ${problem.message}`] : [],
  );

const chatTemplate = "{{ messages[0].content }}";

test("models that fit together give a report without errors", async () => {
  const base = modelFolder({ eos: 3, chatTemplate });
  const report = await check({ base });
  expect(report.problems.filter(({ severity }) => severity === "error")).toEqual([]);
  expect(report).toMatchObject({ ok: true, ensembles: [{ id: "tiny", contextTokens: 64 }] });
  const { graph, ...model } = report.ensembles[0]!.models.base;
  expect(model).toEqual({
    folder: base,
    adapter: null,
    contextTokens: 64,
    eosIds: [3],
    chatTemplate: "folder",
    vocabSize: LOGITS_WIDTH,
  });
  expect(graph).toMatchObject({
    form: { variant: "split", reason: null },
    isCompared: false,
    // Three layers with keys and values of two heads of eight float32 values.
    cacheBytesPerToken: 3 * 2 * 2 * 8 * 4,
    logitsWidth: LOGITS_WIDTH,
  });
  await prepareDecoder(base, { dtype: "fp32", intraOpThreads: 1 });
  const prepared = await check({ base });
  expect(prepared.ensembles[0]!.models.base.graph).toMatchObject({ isCompared: true });
});

test("all that a worker would refuse is found at once", async () => {
  const base = modelFolder({ chatTemplate });
  const expert = modelFolder({ tokens: Object.assign(words(LOGITS_WIDTH), { 5: "other" }) });
  truncateSync(join(expert, "onnx/model.onnx"), 30_000);
  const antiexpert = modelFolder({ rename: ["logits", "logitz"] });
  const report = await check({ base, expert, antiexpert }, { ensemble: { alpha: 2, alphaMax: 1 } });
  expect(report.ok).toBe(false);
  expect(messages(report.problems, "error")).toEqual([
    "all: alpha 2 is greater than alphaMax 1",
    expect.stringContaining("all: The tokenizers of base and expert differ in 2 tokens"),
    expect.stringMatching(/^expert: .*model\.onnx: The graph file ends within a field/),
    expect.stringMatching(/^antiexpert: .*model\.onnx: the graph has no output logits/),
  ]);
});

test("a missing folder and a broken manifest are errors", async () => {
  const base = modelFolder();
  const missing = await check({ base, expert: "/nowhere" });
  expect(messages(missing.problems, "error")[0]).toContain("expert: /nowhere/tokenizer.json");
  const file = join(folderOf({ "x.json": "{}" }), "x.json");
  expect(messages((await checkManifest(file, RESOURCES)).problems, "error")).toEqual([
    expect.stringContaining("x.json: ensembles: "),
  ]);
});

test("end tokens and padding are compared with the vocabulary", async () => {
  const [base, wide] = [modelFolder({ eos: 3 }), modelFolder({ eos: LOGITS_WIDTH })];
  const { problems } = await check({ base, antiexpert: wide });
  expect(messages(problems, "error")).toEqual([
    "antiexpert: eos_token_id 128 is outside the vocabulary of 128 tokens",
  ]);
  const narrow = await check({ base: modelFolder({ tokens: words(LOGITS_WIDTH + 1) }) });
  expect(messages(narrow.problems, "error")).toContain(
    "base: it returns 128 logits, fewer than the 129 tokens of its tokenizer",
  );
});

test("it warns of slow graphs, missing templates, cut contexts, and jobs that fit no cache", async () => {
  const base = modelFolder({ eos: 3, chatTemplate, contextTokens: 100_000 });
  const expert = modelFolder({ eos: 3, contextTokens: 90_000 });
  const resources = { ...RESOURCES, kvCacheMib: 0.1 };
  const { problems } = await check(
    { base, expert, antiexpert: passthroughCopyOf("gemma2/base") },
    { resources },
  );
  expect(messages(problems, "warning")).toEqual([
    'all: expert: no chat template, so of a chat it gets the messages as a plain prompt. "chatTemplate" in the manifest names a Jinja file',
    "antiexpert: it runs slowly, one sequence at a time: its attention stays within chunks of the context",
    "antiexpert: its context ends at 8 tokens: beyond 8 tokens its attention stays within chunks (attention_chunk_size), and its graph has none",
    "base: its context of 100000 tokens is cut to 8, the shortest of the three",
    "all: a job may have 0 of 8 tokens: KV_CACHE_MIB is 0.1",
  ]);
});

test.each(["llama", "gpt2", "gemma2", "mixed", "gqa", "deepseek_v3"])(
  "the form that is expected of %s is the one that preparing gives",
  async (name) => {
    const path = copyOf(`${name}/base`);
    const choice = { path, dtype: "fp32" } as const;
    const { form } = await checkGraph(choice, readConfig(path));
    const { variant, fallbackReason } = await prepareDecoder(path, {
      ...choice,
      intraOpThreads: 1,
    });
    expect(form).toEqual({ variant, reason: fallbackReason });
  },
);

test("memory that this machine does not have is an error", async () => {
  const base = modelFolder({ eos: 3, chatTemplate });
  const report = await check({ base }, { resources: { ...RESOURCES, memoryBytes: 2 ** 20 } });
  expect(messages(report.problems, "error")).toEqual([
    expect.stringMatching(/a worker needs about \d+ MiB of memory, and this machine has 1 MiB/),
  ]);
  expect(report.memory.needed).toBe(
    report.memory.weights + report.memory.caches + report.memory.tokenizers,
  );
});

test("a tokenizer that is a git-LFS pointer is named", async () => {
  const base = modelFolder();
  writeFileSync(
    join(base, "tokenizer.json"),
    "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
  );
  const { problems } = await check({ base });
  expect(messages(problems, "error")).toContainEqual(
    expect.stringMatching(/^base: .*tokenizer\.json: It is a git-LFS pointer/),
  );
});

test.each([
  ["llama/base", "fp32", true],
  ["llama/base", "int8", null],
  ["gqa/base", "q4", false],
] as const)("%s in %s, not prepared: reproducible: %s", async (name, dtype, isReproducible) => {
  const path = quantizedCopyOf(name, dtype);
  expect(await checkGraph({ path, dtype }, readConfig(path))).toMatchObject({ isReproducible });
});

test("it warns that the promise of a quantized graph is not known until it is prepared", async () => {
  const choice = { path: quantizedCopyOf("llama/base", "int8"), dtype: "int8" } as const;
  const config = readConfig(choice.path);
  const { problems } = await check({ base: modelFolder() }, { ensemble: { base: choice } });
  expect(messages(problems, "warning")).toContainEqual(
    expect.stringMatching(/^base: .* is not known until it is prepared$/),
  );
  const file = findGraph(choice);
  const key = await preparationKey(file, config);
  await writePrepared(file, key, {
    variant: "split",
    logitsChange: null,
    fallbackReason: null,
    countsEntries: false,
    hasExactRows: true,
    newKvOutputs: {},
    bytes: new Uint8Array(),
  });
  expect(await checkGraph(choice, config)).toMatchObject({ isReproducible: true });
  // The result may be in the folder of PREPARED_FOLDER instead.
  const cache = folderOf({});
  const prepared = `${key}.prepared.onnx`;
  renameSync(file.replace(/\.onnx$/, ".prepared.onnx"), join(cache, prepared));
  expect(await checkGraph(choice, config)).toMatchObject({ isReproducible: null });
  expect(await checkGraph(choice, config, cache)).toMatchObject({ isReproducible: true });
});

/** A model folder with only this graph, not prepared. */
function quantizedCopyOf(name: string, dtype: Dtype): string {
  const folder = copyOf(name);
  const graph = findGraph({ path: join(VECTORS, name), dtype });
  copyFileSync(graph, join(folder, "onnx", basename(graph)));
  return folder;
}

test("an adapter is described; one that the antiexpert's graph cannot have is an error", async () => {
  const base = modelFolder({ eos: 3, chatTemplate });
  const modules = DOWN_PROJ;
  const config = { base_model_name_or_path: "org/small" };
  const adapter = adapterFolder({ modules, config });
  const withAdapter = (folder: string) =>
    check({ base }, { ensemble: { expert: { adapter: folder } } });
  const report = await withAdapter(adapter);
  expect(report.ok).toBe(true);
  const { expert, antiexpert } = report.ensembles[0]!.models;
  expect(expert.adapter).toMatchObject({
    folder: adapter,
    modules: 1,
    rankMax: 4,
    trainedOn: "org/small",
  });
  expect(expert.graph).toEqual(antiexpert.graph);
  // Rank 4 takes 16 columns of float32 values, of which a worker needs five times the bytes while it starts.
  const values = (64 + 32) * 16;
  expect(report.memory.weights).toBe(Math.ceil(expert.graph!.bytes * 1.8 + values * 4 * 5));
  const unknown = adapterFolder({ modules: { "model.layers.7.mlp.down_proj": [64, 32] } });
  for (const [folder, reason] of [
    [
      unknown,
      "no product has the name of the adapter's module model.layers.7.mlp.down_proj: the graph has no layers.7",
    ],
    [adapterFolder({ modules, config: { use_dora: true } }), "has 0 magnitudes"],
    [
      adapterFolder({ modules: { "model.layers.0.mlp.down_proj": [63, 32] } }),
      "down_proj has 63 inputs and 32 outputs, but the graph's has 64 and 32",
    ],
  ]) {
    const { ok, problems } = await withAdapter(folder!);
    expect(ok).toBe(false);
    expect(messages(problems, "error")).toEqual([expect.stringContaining(`${reason}`)]);
    expect(messages(problems, "error")[0]).toMatch(/^expert: /);
  }
});

test("an adapter of lm_head is compared with embeddings that the graph transposes for it", async () => {
  const base = modelFolder({ eos: 3, chatTemplate });
  const graph = join(base, "onnx/model.onnx");
  writeFileSync(graph, tiedGraph(readFileSync(graph)));
  const problemsOf = async (inputs: number, outputs: number) => {
    const adapter = adapterFolder({ modules: { lm_head: [inputs, outputs] } });
    const { problems } = await check({ base }, { ensemble: { expert: { adapter } } });
    return messages(problems, "error").map((message) => message.replace(adapter, "ADAPTER"));
  };
  expect(await problemsOf(32, LOGITS_WIDTH)).toEqual([]);
  for (const [inputs, outputs] of [
    [31, LOGITS_WIDTH],
    [32, 100],
  ] as const) {
    expect(await problemsOf(inputs, outputs)).toEqual([
      `expert: ${graph}: ADAPTER: the adapter's module lm_head has ${inputs} inputs and ${outputs} outputs, but the graph's has 32 and ${LOGITS_WIDTH}`,
    ]);
  }
});

test.each(["cuda", "webgpu"] as const)(
  "an adapter is an error on %s",
  async (executionProvider) => {
    const expert = { adapter: adapterFolder({ modules: DOWN_PROJ }) };
    const resources = { ...RESOURCES, executionProvider };
    const { problems } = await check({ base: modelFolder() }, { ensemble: { expert }, resources });
    expect(messages(problems, "error")).toEqual([
      expect.stringContaining(
        `it can have no adapters with execution provider ${executionProvider}`,
      ),
    ]);
  },
);

test("an adapter of a graph with two branches is checked with the one that runs", async () => {
  const base = modelFolder({ eos: 3, chatTemplate });
  const graph = join(base, "onnx/model.onnx");
  writeFileSync(graph, mergedGraph(readFileSync(graph)));
  const expert = { adapter: adapterFolder({ modules: DOWN_PROJ }) };
  const { problems } = await check({ base }, { ensemble: { expert } });
  expect(messages(problems, "error")).toEqual([]);
});

test("weights in bfloat16 take twice their bytes, and three times while they load", async () => {
  const base = modelFolder({ eos: 3, chatTemplate });
  const graph = join(base, "onnx/model.onnx");
  const stored = roundedGraph(readFileSync(graph), "bfloat16");
  const float32 = (await check({ base })).ensembles[0]!.models.base.graph!;
  writeFileSync(graph, stored);
  const report = await check({ base });
  const { bytes, bfloat16Bytes } = report.ensembles[0]!.models.base.graph!;
  expect([float32.bfloat16Bytes, bfloat16Bytes > 0]).toEqual([0, true]);
  expect(report.memory.weights).toBe(Math.ceil(bytes * 1.8 + bfloat16Bytes * 1.2));
});

test("adapters of one graph that have too many values together are an error", async () => {
  const expert = { adapter: adapterFolder({ modules: DOWN_PROJ }) };
  const { ensembles } = await check({ base: modelFolder() }, { ensemble: { expert } });
  const [ensemble] = ensembles as [EnsembleReport];
  const withOutputs = (id: string, outputs: number) => {
    const sizes = { head: { rank: 1, inputs: 0, outputs } };
    const adapter = { ...ensemble.models.expert.adapter!, folder: id, sizes };
    const models = { ...ensemble.models, expert: { ...ensemble.models.expert, adapter } };
    return { ...ensemble, id, models };
  };
  const resources = { ...RESOURCES, memoryBytes: 2 ** 40 };
  // Each of rank 1 takes 16 columns.
  const problemsOf = (outputs: number) =>
    checkMemory(
      ["a", "b"].map((id) => withOutputs(id, outputs)),
      new Map(),
      resources,
    ).problems;
  expect(problemsOf(2 ** 23)).toEqual([]);
  expect(problemsOf(2 ** 23 + 1)).toEqual([
    expect.objectContaining({ severity: "error", ensemble: "b", role: "expert" }),
  ]);
});
