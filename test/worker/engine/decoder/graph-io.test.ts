import * as fc from "fast-check";
import {
  Tensor,
  type InferenceSession,
} from "../../../../worker/engine/onnxruntime/onnxruntime.ts";
import { describe, expect, test } from "vitest";
import {
  bytesPerToken,
  cacheTensor,
  GraphIo,
  logitsRow,
  logitsRows,
} from "../../../../worker/engine/decoder/graph-io.ts";

const SHAPE = { kvHeads: 3, headDim: 5 };

type Input = readonly [name: string, type: string, shape: readonly (number | string)[]];

const KEY: Input = ["past_key_values.0.key", "float32", ["batch", 2, "past", 8]];
const IDS: Input = ["input_ids", "int64", ["batch", "sequence"]];

const read = (...graph: Parameters<typeof sessionOf>) => new GraphIo(sessionOf(...graph), SHAPE);

/** The metadata of a session for a graph with these inputs and outputs. */
function sessionOf(
  inputs: readonly Input[],
  outputs = ["logits", "present.0.key"],
): InferenceSession {
  const metadata = (name: string, type: string, shape: readonly (number | string)[]) => ({
    name,
    isTensor: true,
    type,
    shape,
  });
  const session = {
    inputMetadata: inputs.map(([name, type, shape]) => metadata(name, type, shape)),
    outputNames: outputs,
    outputMetadata: outputs.map((name) => metadata(name, "float32", ["batch", "sequence", 100])),
  };
  return session as unknown as InferenceSession;
}

const numbers = (tensor: Tensor | undefined) =>
  Array.from(tensor!.data as ArrayLike<number | bigint>, Number);

describe("the feeds of a run", () => {
  const io = read([
    IDS,
    KEY,
    ["attention_mask", "int64", ["batch", "total"]],
    ["position_ids", "int64", ["batch", "sequence"]],
  ]);

  test("are token ids, position ids, and a mask of past and new tokens", () => {
    const rows = fc
      .record({ count: fc.integer({ min: 1, max: 5 }), capacity: fc.nat(20) })
      .chain(({ count, capacity }) =>
        fc.record({
          capacity: fc.constant(capacity),
          rows: fc.array(
            fc.record({
              ids: fc.array(fc.nat(50_000), { minLength: count, maxLength: count }),
              pastTokens: fc.nat(capacity),
            }),
            { minLength: 1, maxLength: 4 },
          ),
        }),
      );
    fc.assert(
      fc.property(rows, ({ capacity, rows }) => {
        const feeds = io.feeds(rows, capacity);
        const count = rows[0]!.ids.length;
        expect(feeds["input_ids"]!.dims).toEqual([rows.length, count]);
        expect(numbers(feeds["input_ids"])).toEqual(rows.flatMap(({ ids }) => ids));
        expect(numbers(feeds["position_ids"])).toEqual(
          rows.flatMap(({ ids, pastTokens }) => ids.map((_, i) => pastTokens + i)),
        );
        const masks = rows.flatMap(({ pastTokens }) => [
          ...Array<number>(capacity - pastTokens).fill(0),
          ...Array<number>(pastTokens + count).fill(1),
        ]);
        expect(feeds["attention_mask"]!.dims).toEqual([rows.length, capacity + count]);
        expect(numbers(feeds["attention_mask"])).toEqual(masks);
        expect(Object.keys(feeds)).toHaveLength(3);
      }),
    );
  });

  test("have a mask that is padded at the right, no wider than needed, if tokens are at the start", () => {
    const session = sessionOf([IDS, KEY, ["attention_mask", "int64", ["batch", "total"]]]);
    const fused = new GraphIo(session, SHAPE, { newKvOutputs: new Map(), alignment: "start" });
    const rows = [2, 0, 3].map((pastTokens) => ({ ids: [7, 7], pastTokens }));
    const { attention_mask } = fused.feeds(rows, 64);
    expect(attention_mask!.dims).toEqual([3, 5]);
    expect(numbers(attention_mask)).toEqual([1, 1, 1, 1, 0, 1, 1, 0, 0, 0, 1, 1, 1, 1, 1]);
  });

  test("mask the entries between old and new tokens, if there is a gap", () => {
    const session = sessionOf([IDS, KEY, ["attention_mask", "int64", ["batch", "total"]]]);
    const io = new GraphIo(session, SHAPE, { newKvOutputs: new Map(), alignment: "gap" });
    const rows = [2, 0].map((pastTokens) => ({ ids: [7, 7], pastTokens }));
    const { attention_mask } = io.feeds(rows, 4);
    expect(attention_mask!.dims).toEqual([2, 6]);
    expect(numbers(attention_mask)).toEqual([1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 1, 1]);
  });

  test.each(["int64", "int32", "float32"])("have the type that the graph declares: %s", (type) => {
    const feeds = read([["input_ids", type, ["b", "s"]], KEY]).feeds(
      [{ ids: [1, 2], pastTokens: 3 }],
      3,
    );
    expect(feeds["input_ids"]!.type).toBe(type);
    expect(numbers(feeds["input_ids"])).toEqual([1, 2]);
  });

  test("contain use_cache_branch and num_logits_to_keep for older exports", () => {
    const older = read([
      IDS,
      KEY,
      ["use_cache_branch", "bool", [1]],
      ["num_logits_to_keep", "int64", []],
      ["token_type_ids", "int64", ["batch", "sequence"]],
    ]);
    const first = older.feeds([{ ids: [7, 8], pastTokens: 0 }], 0);
    expect(numbers(first["use_cache_branch"])).toEqual([0]);
    expect(numbers(first["num_logits_to_keep"])).toEqual([2]);
    expect(first["num_logits_to_keep"]!.dims).toEqual([]);
    expect(numbers(first["token_type_ids"])).toEqual([0, 0]);
    expect(numbers(older.feeds([{ ids: [7], pastTokens: 2 }], 2)["use_cache_branch"])).toEqual([1]);
    const asVector = read([IDS, KEY, ["num_logits_to_keep", "int64", [1]]]);
    const { dims } = asVector.feeds([{ ids: [7], pastTokens: 0 }], 0)["num_logits_to_keep"]!;
    expect(dims).toEqual([1]);
  });
});

describe("the shape of a cache", () => {
  test.each<[string, Input[2], number[]]>([
    ["is as the graph declares it", ["batch", 2, "past", 8], [1, 2, 0, 8]],
    ["has its token axis where the graph declares it", ["batch", "past", 16], [1, 0, 16]],
    ["may have -1 for symbolic axes", [-1, 2, -1, 8], [1, 2, 0, 8]],
    ["gets missing axes from config.json", ["batch", "heads", "past", "size"], [1, 3, 0, 5]],
  ])("%s", (_, shape, emptyShape) => {
    const { pastInputs } = read([IDS, [KEY[0], "float32", shape]]);
    expect(pastInputs.map((past) => past.emptyShape)).toEqual([emptyShape]);
  });

  test("must be unambiguous", () => {
    const unclear: Input = [KEY[0], "float32", ["batch", "past", "size"]];
    expect(() => read([IDS, unclear])).toThrow(
      "The shape of input past_key_values.0.key is not supported",
    );
  });

  test("must be of floats", () => {
    expect(() => read([IDS, [KEY[0], "int8", KEY[2]]])).toThrow(
      "KV cache of type int8 is not supported",
    );
  });

  test("may be an output with an older name", () => {
    const { pastInputs } = read([IDS, KEY], ["logits", "present_key_values.0.key"]);
    expect(pastInputs[0]!.output).toBe("present_key_values.0.key");
  });

  test("is not an output of a prepared graph: its new rows are", () => {
    const session = sessionOf([IDS, KEY], ["logits", "rows"]);
    const newKvOutputs = new Map([[KEY[0], "rows"]]);
    const { pastInputs } = new GraphIo(session, SHAPE, { newKvOutputs, alignment: "end" });
    expect(pastInputs[0]!.output).toBe("rows");
  });

  test("gives the bytes of one token", () => {
    const value: Input = ["past_key_values.0.value", "float16", ["batch", 2, "past", 4]];
    const { pastInputs } = read([IDS, KEY, value], ["logits", "present.0.key", "present.0.value"]);
    expect(bytesPerToken(pastInputs)).toBe(2 * 8 * 4 + 2 * 4 * 2);
  });
});

test("an unsupported input is named in the error", () => {
  expect(() => read([IDS, KEY, ["pixel_values", "float32", [1]]])).toThrow(
    "has inputs that are not supported: pixel_values (float32)",
  );
  expect(() => read([["input_ids", "string", [1]], KEY])).toThrow("input_ids (string)");
});

test.each([
  ["float32", Float32Array.of(1, 2, 3, 4, 5, 6)],
  ["float16", Float16Array.of(1, 2, 3, 4, 5, 6)],
] as const)("logits of %s are returned as float32", (type, data) => {
  const batch = new Tensor(type, data as Float32Array, [2, 1, 3]);
  expect(logitsRow(batch, 1)).toEqual(Float32Array.of(4, 5, 6));
  const positions = new Tensor(type, data as Float32Array, [1, 3, 2]);
  expect(logitsRows(positions)).toEqual(
    [
      [1, 2],
      [3, 4],
      [5, 6],
    ].map((row) => Float32Array.from(row)),
  );
});

test("logits of another type are refused", () => {
  const logits = new Tensor("float64", Float64Array.of(1), [1, 1, 1]);
  expect(() => logitsRow(logits, 0)).toThrow("Logits of type float64 are not supported");
});

test.each([
  ["float32", new Float32Array(8)],
  ["float16", new Float16Array(8)],
] as const)("a KV cache of %s is an input without a copy", (type, values) => {
  const tensor = cacheTensor(values.subarray(2, 6), [1, 2, 1, 2]);
  expect([tensor.type, tensor.dims, tensor.data.length]).toEqual([type, [1, 2, 1, 2], 4]);
  const { buffer, byteOffset } = tensor.data as Float32Array;
  expect([buffer, byteOffset]).toEqual([values.buffer, 2 * values.BYTES_PER_ELEMENT]);
});
