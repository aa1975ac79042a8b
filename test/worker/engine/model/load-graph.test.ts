import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test, vi } from "vitest";
import { InferenceSession } from "../../../../worker/engine/onnxruntime/onnxruntime.ts";
import { prepareDecoder } from "../../../../worker/engine/model/model-folder.ts";
import { copyOf, VECTORS } from "../../../support/model-folder.ts";

vi.mock("../../../../worker/engine/graph/row-probe.ts", () => ({
  measureValues: () => Promise.reject(new Error("out of memory")),
  hasExactRows: () => Promise.reject(new Error("out of memory")),
}));

test("a probe that throws leaves no session open", async () => {
  const folder = copyOf("llama/base");
  const file = "onnx/model_quantized.onnx";
  copyFileSync(join(VECTORS, "llama/base", file), join(folder, file));
  const create = InferenceSession.create.bind(InferenceSession);
  let open = 0;
  vi.spyOn(InferenceSession, "create").mockImplementation(async (...args: unknown[]) => {
    const session: InferenceSession = await Reflect.apply(create, null, args);
    const release = session.release.bind(session);
    open++;
    session.release = async () => {
      open--;
      await release();
    };
    return session;
  });
  const prepared = await prepareDecoder(folder, { dtype: "int8", intraOpThreads: 1 });
  expect(prepared.fallbackReason).toBe("the prepared graph does not run: out of memory");
  expect(open).toBe(0);
});
