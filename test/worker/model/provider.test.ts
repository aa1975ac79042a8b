/** No GPU is needed here: what is tested is the choice, the cache's way on the processor, and what is said without one. */
import { join } from "node:path";
import { InferenceSession } from "onnxruntime-node";
import { expect, test } from "vitest";
import { loadDecoder, readConfig } from "../../../worker/model/files.ts";
import { loadOnDevice } from "../../../worker/model/load-graph.ts";
import { constantModel } from "../../../worker/model/onnx-wire.ts";
import { checkProvider, keepsCacheOnDevice } from "../../../worker/model/provider.ts";
import { nativeOptions } from "../../../worker/model/session.ts";
import { largestDifference } from "../../support/logits.ts";
import { VECTORS } from "../../support/model-folder.ts";

const FOLDER = join(VECTORS, "llama/base");
const OPTIONS = { intraOpThreads: 1 } as const;

test("a graph runs on the processor unless told otherwise", () => {
  expect(nativeOptions(OPTIONS).executionProviders).toEqual(["cpu"]);
  const cuda = nativeOptions({ ...OPTIONS, executionProvider: "cuda" });
  expect(cuda.executionProviders).toEqual(["cuda"]);
});

test("only WebGPU has a cache that stays on the device", () => {
  expect((["cpu", "cuda", "webgpu"] as const).filter(keepsCacheOnDevice)).toEqual(["webgpu"]);
  const { preferredOutputLocation } = nativeOptions({ ...OPTIONS, keptOutputs: ["present.0.key"] });
  expect(preferredOutputLocation).toEqual({ "present.0.key": "gpu-buffer" });
});

test("the model that a provider is tried with is one", async () => {
  const session = await InferenceSession.create(constantModel());
  expect((await session.run({}))["one"]!.data).toEqual(BigInt64Array.of(1n));
  await expect(checkProvider("cpu")).resolves.toBeUndefined();
});

// The processor gives CPU tensors where device tensors are asked for: all but the place is as on a device.
test("a cache that is left where it is computed goes back in, and is disposed of", async () => {
  const source = {
    file: join(FOLDER, "onnx/model.onnx"),
    config: readConfig(FOLDER),
    options: OPTIONS,
  };
  const onDevice = await loadOnDevice(source);
  const owned = await loadDecoder(FOLDER, { ...OPTIONS, dtype: "fp32" });
  const rows = [];
  for (const decoder of [onDevice, owned]) {
    const [a, b] = [decoder.open(), decoder.open()];
    await decoder.prefill(a, [1, 2, 3]);
    const turns = [
      { sequence: a, id: 4 },
      { sequence: b, id: 5 },
    ];
    rows.push([...(await decoder.decode(turns)), ...(await decoder.score(a, [6, 7]))]);
    for (const sequence of [a, b]) decoder.close(sequence);
    expect(decoder.cacheBytes).toBe(0);
  }
  expect(largestDifference(rows[0]!, rows[1]!)).toBeLessThan(1e-3);
});

test.each([
  ["cuda", "ONNXRUNTIME_NODE_INSTALL=cuda12"],
  ["webgpu", "Vulkan"],
] as const)("%s works here, or is refused with what it lacks", async (provider, need) => {
  const outcome = await checkProvider(provider).catch((error: Error) => error.message);
  const refusal = `EXECUTION_PROVIDER: ${provider} does not work here\\. .*${need}.*onnxruntime says: .`;
  expect(outcome ?? "works").toMatch(new RegExp(`^(works|${refusal})`));
});
