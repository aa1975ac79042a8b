import { describe, expect, test } from "vitest";
import {
  int64Constant,
  standardNode,
  type GraphNode,
} from "../../../../worker/engine/graph/nodes.ts";
import { usePositionInput } from "../../../../worker/engine/graph/position-input.ts";

const node = standardNode;
const range = [
  node("Range", ["past length", "length"], "entries"),
  int64Constant("zero", [0n]),
  node("Unsqueeze", ["entries", "zero"], "row"),
];
const inputsOf = (nodes: readonly GraphNode[] | null, output: string) =>
  nodes?.find(({ outputs }) => outputs.includes(output))?.inputs;

describe("a graph that counts positions itself gets them from the input", () => {
  test.each([
    [
      "for rotary embeddings",
      [
        node("Cast", ["row"], "x"),
        node("MatMul", ["f", "x"], "angles"),
        node("Cos", ["angles"], "cos"),
      ],
      "x",
    ],
    ["for learned embeddings", [node("Gather", ["table", "row"], "x")], "x"],
    ["after a shift", [node("Add", ["row", "two"], "x"), node("Gather", ["table", "x"], "y")], "x"],
  ])("%s", (_, nodes, output) => {
    const inputs = inputsOf(usePositionInput([...range, ...nodes]), output);
    expect(inputs).toContain("position_ids");
    expect(inputs).not.toContain("row");
  });

  test("also from a range of the new tokens, to which the length of the cache is added", () => {
    const nodes = [
      node("Range", ["zero", "count"], "new"),
      node("Add", ["new", "past length"], "entries"),
      ...range.slice(1),
      node("Sin", ["row"], "sin"),
    ];
    expect(inputsOf(usePositionInput(nodes), "sin")).toEqual(["position_ids"]);
  });

  test("but its mask still counts the entries of the cache", () => {
    const nodes = [
      ...range,
      node("Cos", ["row"], "cos"),
      node("Unsqueeze", ["row", "zero"], "queries"),
      node("LessOrEqual", ["keys", "queries"], "mask"),
    ];
    const changed = usePositionInput(nodes);
    expect(inputsOf(changed, "cos")).toEqual(["position_ids"]);
    expect(inputsOf(changed, "queries")).toEqual(["row", "zero"]);
  });
});

test.each([
  ["a graph without positions (ALiBi)", []],
  [
    "a mask that is gathered",
    [node("Flatten", ["attention_mask"], "flat"), node("Gather", ["flat", "row"], "mask")],
  ],
])("%s is not changed", (_, nodes) => {
  expect(usePositionInput([...range, ...nodes])).toBeNull();
});
