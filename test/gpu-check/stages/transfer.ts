/** The cost of runs that only move data: to the provider, and to it and back. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createSession } from "../../../worker/engine/decoder/session.ts";
import type { GraphNode } from "../../../worker/engine/graph/nodes.ts";
import { Tensor, type InferenceSession } from "../../../worker/engine/onnxruntime/onnxruntime.ts";
import { constantNode, writeModel } from "../../bench/models/onnx.ts";
import { quantile } from "../../bench/statistics.ts";
import type { Row, StageInput } from "../stage.ts";

const MIB = [0, 1, 8, 64];
const RUNS = 7;
const WARM_UP_RUNS = 2;
const OPSET = 18;

export async function* transfer(input: StageInput): AsyncGenerator<Row, void, undefined> {
  const folder = mkdtempSync(join(tmpdir(), "trimtab-gpu-check-"));
  try {
    const open = (name: string, nodes: readonly GraphNode[], outputAxis: string | number) => {
      const file = join(folder, `${name}.onnx`);
      const value = (name: string, axis: string | number) =>
        ({ name, type: "float", shape: [axis] }) as const;
      const [inputs, outputs] = [[value("x", "n")], [value("y", outputAxis)]];
      writeModel(file, { nodes, weights: new Map(), inputs, outputs }, OPSET);
      return createSession(file, { intraOpThreads: 0, executionProvider: input.provider });
    };
    const first = constantNode("first", { dims: [1], data: BigInt64Array.of(0n) });
    const there = await open("there", [first, node("Gather", ["x", "first"])], 1);
    const andBack = await open("and-back", [node("Neg", ["x"])], "n");
    for (const mib of MIB) {
      if (input.isLate()) return;
      const x = new Float32Array(Math.max(1, (mib * 2 ** 20) / 4));
      const [thereMs, bothMs] = [await medianMs(there, x), await medianMs(andBack, x)];
      yield {
        MiB: mib,
        "there ms": thereMs,
        "there and back ms": bothMs,
        "there GiB/s": mib === 0 ? "" : mib / 1024 / (thereMs / 1000),
      };
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const node = (op: string, inputs: readonly string[]): GraphNode => ({
  op,
  domain: null,
  inputs,
  outputs: ["y"],
  attributes: [],
});

async function medianMs(session: InferenceSession, values: Float32Array): Promise<number> {
  const timesMs: number[] = [];
  for (let run = -WARM_UP_RUNS; run < RUNS; run++) {
    const startedMs = performance.now();
    await session.run({ x: new Tensor("float32", values, [values.length]) });
    if (run >= 0) timesMs.push(performance.now() - startedMs);
  }
  return quantile(
    timesMs.toSorted((a, b) => a - b),
    0.5,
  );
}
