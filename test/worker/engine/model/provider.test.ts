/** These tests need no GPU: they check the choice of the provider, a cache on the device (here the CPU), and the errors. */
import { join } from "node:path";
import { InferenceSession } from "../../../../worker/engine/onnxruntime/onnxruntime.ts";
import { expect, test } from "vitest";
import { readConfig } from "../../../../worker/engine/model/model-config.ts";
import { loadDecoder } from "../../../../worker/engine/model/model-folder.ts";
import { loadOnDevice } from "../../../../worker/engine/model/load-graph.ts";
import { constantModel } from "../../../../worker/engine/graph/onnx-wire.ts";
import { checkProvider, keepsCacheOnDevice } from "../../../../worker/engine/model/provider.ts";
import { onnxruntimeOptions } from "../../../../worker/engine/decoder/session.ts";
import { largestDifference } from "../../../support/logits.ts";
import { VECTORS } from "../../../support/model-folder.ts";

const FOLDER = join(VECTORS, "llama/base");
const OPTIONS = { intraOpThreads: 1 } as const;

test("a graph runs on the CPU by default", () => {
  expect(onnxruntimeOptions(OPTIONS).executionProviders).toEqual(["cpu"]);
  const cuda = onnxruntimeOptions({ ...OPTIONS, executionProvider: "cuda" });
  expect(cuda.executionProviders).toEqual(["cuda"]);
});

test("only with WebGPU the KV cache stays on the device", () => {
  expect((["cpu", "cuda", "webgpu"] as const).filter(keepsCacheOnDevice)).toEqual(["webgpu"]);
  const { preferredOutputLocation } = onnxruntimeOptions({
    ...OPTIONS,
    deviceOutputs: ["present.0.key"],
  });
  expect(preferredOutputLocation).toEqual({ "present.0.key": "gpu-buffer" });
});

test("the model that checks a provider can run", async () => {
  const session = await InferenceSession.create(constantModel());
  expect((await session.run({}))["one"]!.data).toEqual(BigInt64Array.of(1n));
  await expect(checkProvider("cpu")).resolves.toBeUndefined();
});

// The CPU provider returns CPU tensors where device tensors are requested: only their location differs.
test("a KV cache on the device is passed to the next run, and disposed of", async () => {
  const source = {
    file: join(FOLDER, "onnx/model.onnx"),
    config: readConfig(FOLDER),
    options: OPTIONS,
  };
  const { decoder: onDevice } = await loadOnDevice(source);
  const external = await loadDecoder(FOLDER, { ...OPTIONS, dtype: "fp32" });
  const rows = [];
  for (const decoder of [onDevice, external]) {
    const [a, b] = [decoder.open(), decoder.open()];
    await decoder.prefill(a, [1, 2, 3]);
    const inputs = [
      { sequence: a, id: 4 },
      { sequence: b, id: 5 },
    ];
    rows.push([...(await decoder.decode(inputs)), ...(await decoder.score(a, [6, 7]))]);
    for (const sequence of [a, b]) decoder.close(sequence);
    expect(decoder.cacheBytes).toBe(0);
  }
  expect(largestDifference(rows[0]!, rows[1]!)).toBeLessThan(1e-3);
});

test.each([
  ["cuda", "ONNXRUNTIME_NODE_INSTALL=cuda12"],
  ["webgpu", "Vulkan"],
] as const)("%s can be loaded, or the error says what it needs", async (provider, need) => {
  const outcome = await checkProvider(provider).catch((error: Error) => error.message);
  const refusal = `EXECUTION_PROVIDER: ${provider} cannot be loaded\\. .*${need}.*Error of onnxruntime: .`;
  expect(outcome ?? "loaded").toMatch(new RegExp(`^(loaded|${refusal})`));
});
