import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { Decoder } from "../../../../worker/engine/decoder/decoder.ts";
import { loadDecoder } from "../../../../worker/engine/model/model-folder.ts";
import { largestDifference } from "../../../support/logits.ts";
import {
  modelFolder,
  passthroughCopyOf,
  VECTORS,
  type ModelFolderOptions,
} from "../../../support/model-folder.ts";
import { tinyGraph, type TinyGraph } from "../../../support/tiny-graph.ts";
import { folderOf } from "../../../support/tokenizers.ts";
import { replay } from "../../../vectors/golden.ts";

/** Largest allowed |difference| of a logit. */
const TOLERANCE = 1e-3;
const OPTIONS = { dtype: "fp32", intraOpThreads: 1 } as const;
const load = (name: string) => loadDecoder(join(VECTORS, name), OPTIONS);

describe("a graph is refused, with file and reason, if it", () => {
  test.each<[string, NonNullable<ModelFolderOptions["rename"]>, string]>([
    [
      "has an unknown input",
      ["attention_mask", "attention_musk"],
      "has inputs that are not supported: attention_musk (int64)",
    ],
    ["has no token input", ["input_ids", "input_idz"], "no input input_ids"],
    ["has no KV cache", ["past_key_values.", "fast_key_values."], "export it with a KV cache"],
    ["does not return its KV cache", ["present.", "prezent."], "no output present.0.key"],
    ["has no logits", ["logits", "logitz"], "no output logits"],
  ])("%s", async (_, rename, reason) => {
    const folder = modelFolder({ rename });
    const file = join(folder, "onnx/model.onnx");
    await expect(loadDecoder(folder, OPTIONS)).rejects.toThrow(reason);
    await expect(loadDecoder(folder, OPTIONS)).rejects.toThrow(file);
  });

  test("is not an ONNX file", async () => {
    const folder = folderOf({ "config.json": {}, "onnx/model.onnx": "not a graph" });
    await expect(loadDecoder(folder, OPTIONS)).rejects.toThrow(`${folder}/onnx/model.onnx: `);
  });
});

test("the number of logits is known before the first run", async () => {
  expect((await load("qwen2/base")).logitsWidth).toBe(152);
});

test.each(
  // The last three have attention windows, and the last two no input position_ids.
  ["llama", "qwen2", "qwen3", "gpt2", "gpt_neox", "deepseek_v3", "mixed", "gemma2", "gemma3_text"],
)("%s runs with an external KV cache", async (name) => {
  for (const role of ["base", "expert"]) {
    const { fallbackReason, rewind } = await load(`${name}/${role}`);
    expect([fallbackReason, rewind]).toEqual([null, expect.any(Function)]);
  }
});

test("a graph with chunks of attention runs with a passthrough KV cache, and gives the reason", async () => {
  const { fallbackReason, rewind } = await loadDecoder(passthroughCopyOf("llama/base"), OPTIONS);
  expect([fallbackReason, rewind]).toEqual([
    "its attention stays within chunks of the context",
    null,
  ]);
});

test.each(["llama", "gpt2", "qwen2"])(
  "golden vectors of %s also pass with passthrough KV caches",
  async (name) => {
    const folders = {
      base: passthroughCopyOf(`${name}/base`),
      expert: passthroughCopyOf(`${name}/expert`),
      antiexpert: passthroughCopyOf(`${name}/antiexpert`),
    };
    for (const { expected, tokens, logitsDifference } of await replay(
      join(VECTORS, name),
      folders,
    )) {
      expect(tokens).toEqual(expected);
      expect(logitsDifference).toBeLessThan(1e-3);
    }
  },
);

test.each([
  ["gqa/base", "qwen3/base"],
  ["gqa/expert", "qwen3/expert"],
  ["gqa/antiexpert", "qwen3/antiexpert"],
  ["gqa/window", "mixed/base"],
])("%s has the logits of %s at every position", async (name, original) => {
  const rows = [];
  for (const decoder of [await load(name), await load(original)]) {
    const [long, short] = [decoder.open(), decoder.open()];
    const logits = [
      ...(await decoder.score(long, ids(70))),
      ...(await decoder.score(long, ids(57))),
    ];
    const inputs = [long, short].map((sequence) => ({ sequence, id: 9 }));
    rows.push([...logits, ...(await decoder.decode(inputs))]);
  }
  expect(rows[0]).toHaveLength(129);
  expect(largestDifference(rows[0]!, rows[1]!)).toBeLessThan(TOLERANCE);
});

const ids = (count: number, salt = 0) =>
  Array.from({ length: count }, (_, i) => 1 + ((salt + i * i) % 127));

/** Logits after each token, with one run for each. */
async function oneByOne(decoder: Decoder, tokens: readonly number[], sequence = decoder.open()) {
  const rows: Float32Array[] = [];
  for (const id of tokens) rows.push((await decoder.decode([{ sequence, id }]))[0]!);
  return rows;
}

const fused = ["gqa/base", "gqa/expert", "gqa/antiexpert", "gqa/window"];
const external = ["llama/base", "gpt2/base", "deepseek_v3/base", "gemma3_text/base", "mixed/base"];

describe.each([...external, ...fused, "passthrough"])("%s", async (name) => {
  const open = () =>
    name === "passthrough" ? loadDecoder(passthroughCopyOf("mixed/base"), OPTIONS) : load(name);
  const decoder = await open();
  /** Sequences of which so many tokens have been run. */
  const openAll = async (lengths: readonly number[]) => {
    const sequences = lengths.map(() => decoder.open());
    for (const [i, length] of lengths.entries()) {
      if (length > 0) await decoder.prefill(sequences[i], ids(length, i));
    }
    return sequences;
  };

  test("has the same logits after a prompt in pieces as after the whole prompt", async () => {
    const tokens = ids(90);
    const whole = decoder.open();
    await decoder.prefill(whole, tokens.slice(0, -1));
    const expected = await oneByOne(decoder, tokens.slice(-1), whole);
    const pieces = decoder.open();
    for (const [start, end] of [
      [0, 2],
      [2, 70],
      [70, 89],
    ] as const) {
      await decoder.prefill(pieces, tokens.slice(start, end));
    }
    expect(
      largestDifference(await oneByOne(decoder, tokens.slice(-1), pieces), expected),
    ).toBeLessThan(TOLERANCE);
    expect(largestDifference((await oneByOne(decoder, tokens)).slice(-1), expected)).toBeLessThan(
      TOLERANCE,
    );
  });

  // Up to the token capacity of an external cache, and beyond it.
  test.each([0, 1, 7, 60, 63, 64])(
    "after %d tokens, scores several tokens as it decodes them one by one",
    async (past) => {
      const [a, b] = [decoder.open(), decoder.open()];
      if (past > 0) for (const sequence of [a, b]) await decoder.prefill(sequence, ids(past));
      const tokens = ids(6, 5);
      expect(
        largestDifference(await decoder.score(a, tokens), await oneByOne(decoder, tokens, b)),
      ).toBeLessThan(TOLERANCE);
      // Afterwards the sequence is in the same state.
      expect(
        largestDifference(await oneByOne(decoder, [9], a), await oneByOne(decoder, [9], b)),
      ).toBeLessThan(TOLERANCE);
    },
  );

  test("scores different numbers of tokens of several sequences as it decodes them one by one", async () => {
    const { scoreAll } = decoder;
    expect(scoreAll === null).toBe(name === "passthrough" || fused.includes(name));
    if (!scoreAll) return;
    const lengths = [60, 0, 100, 1];
    for (const counts of [
      [3, 1, 5, 2],
      [1, 8, 1, 1],
    ]) {
      const [together, apart] = [await openAll(lengths), await openAll(lengths)];
      const tokens = counts.map((count, i) => ids(count, 10 + i));
      const inputs = tokens.map((some, i) => ({ sequence: together[i], ids: some }));
      const rows = await scoreAll(inputs);
      for (const [i, sequence] of apart.entries()) {
        const expected = await oneByOne(decoder, [...tokens[i]!, 9], sequence);
        const after = await oneByOne(decoder, [9], together[i]);
        expect(largestDifference([...rows[i]!, ...after], expected)).toBeLessThan(TOLERANCE);
      }
      for (const sequence of [...together, ...apart]) decoder.close(sequence);
    }
  });

  test("prefills prompts of different lengths with the logits after the last token of each", async () => {
    const lengths = [3, 0, 70, 1];
    const [together, apart] = [await openAll(lengths), await openAll(lengths)];
    const oneAtATime = await openAll(lengths);
    const tokens = [9, 6, 1, 8].map((count, i) => ids(count, 10 + i));
    const rows = await decoder.prefillAll(
      tokens.map((some, i) => ({ sequence: together[i], ids: some })),
    );
    for (const [i, some] of tokens.entries()) {
      const alone = await decoder.prefillAll([{ sequence: apart[i], ids: some }]);
      const expected = (await oneByOne(decoder, [...some, 9], oneAtATime[i])).slice(-2);
      for (const [row, sequence] of [
        [rows[i]!, together[i]],
        [alone[0]!, apart[i]],
      ] as const) {
        const after = await oneByOne(decoder, [9], sequence);
        expect(largestDifference([row, ...after], expected)).toBeLessThan(TOLERANCE);
      }
    }
    for (const sequence of [...together, ...apart, ...oneAtATime]) decoder.close(sequence);
  });

  // With the smallest caches, sequences of different lengths are in runs of their own.
  test.each([
    ["one cache", Infinity],
    ["the smallest caches", 0],
  ])("gives a sequence in %s the logits that it has alone", async (_, bytesMax) => {
    decoder.limitCache?.(bytesMax);
    const lengths = [5, 0, 100, 1, 63, 64];
    const sequences = await openAll(lengths);
    /** Tokens that each sequence has decoded. */
    const decoded = lengths.map(() => 0);
    // All, the first and the last, in reverse order, and one alone.
    for (const group of [[0, 1, 2, 3, 4, 5], [0, 5], [4, 2, 1], [3]]) {
      const inputs = group.map((i) => ({ sequence: sequences[i], id: 10 + i }));
      const rows = await decoder.decode(inputs);
      for (const [at, i] of group.entries()) {
        const alone = decoder.open();
        const before = [...ids(lengths[i]!, i), ...Array<number>(decoded[i]!).fill(10 + i)];
        if (before.length > 0) await decoder.prefill(alone, before);
        expect(
          largestDifference([rows[at]!], await oneByOne(decoder, [10 + i], alone)),
        ).toBeLessThan(TOLERANCE);
        decoder.close(alone);
        decoded[i]!++;
      }
    }
    for (const sequence of sequences) decoder.close(sequence);
    decoder.limitCache?.(Infinity);
  });

  test("frees its memory with the last sequence", async () => {
    const fresh = await open();
    expect(fresh.cacheBytes).toBe(0);
    fresh.limitCache?.(fresh.cacheBytesFor([70, 70]));
    const sequences = [fresh.open(), fresh.open()];
    for (const sequence of sequences) await fresh.prefill(sequence, ids(70));
    expect(fresh.cacheBytes).toBeGreaterThan(0);
    expect(fresh.cacheBytes).toBeLessThanOrEqual(fresh.cacheBytesFor([70, 70]));
    for (const sequence of sequences) fresh.close(sequence);
    expect(fresh.cacheBytes).toBe(0);
  });
});

test("padding does not exceed the context: sequences near its end are scored apart", async () => {
  // Learned positions: a table that ends after 128 tokens, the context.
  const decoder = await load("gpt2/base");
  const [long, short] = [decoder.open(), decoder.open()];
  await decoder.prefill(long, ids(127));
  const inputs = [
    { sequence: long, ids: [3] },
    { sequence: short, ids: [3, 4, 5, 6] },
  ];
  const rows = await decoder.scoreAll!(inputs);
  const expected = await oneByOne(decoder, [3, 4, 5, 6]);
  expect(rows.map(({ length }) => length)).toEqual([1, 4]);
  expect(largestDifference(rows[1]!, expected)).toBeLessThan(TOLERANCE);
});

test.each([...external, ...fused])(
  "%s continues from copied KV rows as from its own",
  async (name) => {
    const decoder = await load(name);
    const [one, two] = [decoder.open(), decoder.open()];
    const tokens = ids(90);
    await decoder.prefill(one, tokens);
    const blocks = [0, 24, 48].map((start) => decoder.kvRows!.read(one, start, 24));
    decoder.kvRows!.append(two, blocks, 24);
    await decoder.prefill(two, tokens.slice(72));
    expect(
      largestDifference(await oneByOne(decoder, [3, 4], two), await oneByOne(decoder, [3, 4], one)),
    ).toBeLessThan(TOLERANCE);
  },
);

test.each([...external, ...fused])(
  "%s rewinds: the same tokens again have the same logits",
  async (name) => {
    const decoder = await load(name);
    const other = decoder.open();
    await decoder.prefill(other, ids(20, 9));
    const sequence = decoder.open();
    await decoder.prefill(sequence, ids(60));
    const [first, second] = [ids(7, 1), ids(7, 2)];
    const [one, two] = [
      await decoder.score(sequence, first),
      await oneByOne(decoder, [3], sequence),
    ];
    decoder.rewind!(sequence, 8);
    await decoder.score(sequence, second);
    decoder.rewind!(sequence, 7);
    expect(largestDifference(await oneByOne(decoder, first, sequence), one)).toBeLessThan(
      TOLERANCE,
    );
    expect(largestDifference(await oneByOne(decoder, [3], sequence), two)).toBeLessThan(TOLERANCE);
  },
);

describe("a KV cache of float16 works like one of float32", () => {
  test.each<[string, TinyGraph, string | null]>([
    ["external, float16", { type: "float16" }, null],
    ["external, float32", { type: "float32" }, null],
    ["external, float16 in the graph only", { type: "float16", castsCaches: true }, null],
    [
      "passthrough, float16",
      { type: "float16", hidesConcat: true },
      "its KV cache is computed neither by Concat nor by GroupQueryAttention",
    ],
  ])("%s", async (_, graph, fallbackReason) => {
    const decoder = await loadDecoder(tinyFolder(graph), OPTIONS);
    expect(decoder.fallbackReason).toBe(fallbackReason);
    const bytes = graph.type === "float16" ? 2 * 2 : 2 * 4;
    expect(decoder.kvRows?.bytesPerToken ?? bytes).toBe(bytes);
    const sequences = [decoder.open(), decoder.open()];
    await decoder.prefill(sequences[0], [3, 4, 5]);
    for (const [step, sum] of [12 + 6, 12 + 7, 12 + 8].entries()) {
      const id = step === 0 ? 6 : 1;
      const rows = await decoder.decode(sequences.map((sequence) => ({ sequence, id })));
      expect(rows.map((row) => [...row])).toEqual([
        [sum, 2 * sum],
        [sum - 12, 2 * (sum - 12)],
      ]);
    }
  });
});

test("a graph whose logits would change runs as exported", async () => {
  const folder = tinyFolder({ type: "float32", ignoresMask: true });
  const { fallbackReason } = await loadDecoder(folder, OPTIONS);
  expect(fallbackReason).toMatch(/^preparing the graph would change its logits by [1-9][\d.]*$/);
});

function tinyFolder(graph: TinyGraph): string {
  const folder = folderOf({ "config.json": {}, "onnx/.keep": "" });
  writeFileSync(join(folder, "onnx/model.onnx"), tinyGraph(graph));
  return folder;
}
