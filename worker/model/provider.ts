/** What graphs run on: onnxruntime's execution providers, as far as its Node binding has them. */
import { InferenceSession, listSupportedBackends } from "onnxruntime-node";
import { constantModel } from "./onnx-wire.ts";

export type ExecutionProvider = "cpu" | "cuda" | "webgpu";

const NEEDS: Readonly<Record<Exclude<ExecutionProvider, "cpu">, string>> = {
  cuda:
    "It needs an NVIDIA GPU, CUDA 12, cuDNN 9, and libraries that are not in the npm package: " +
    "ONNXRUNTIME_NODE_INSTALL=cuda12 node node_modules/onnxruntime-node/script/install.js",
  webgpu: "It needs a GPU with a Vulkan, Metal or Direct3D 12 driver",
};

/** Whether the cache can stay in the provider's memory. The binding has device tensors for WebGPU only. */
export const keepsCacheOnDevice = (provider: ExecutionProvider | undefined) =>
  provider === "webgpu";

/** Runs nothing yet, but loads the provider; throws with what it lacks. */
export async function checkProvider(provider: ExecutionProvider): Promise<void> {
  if (provider === "cpu") return;
  if (!listSupportedBackends().some(({ name }) => name === provider)) {
    const machine = `${process.platform} ${process.arch}`;
    throw new Error(`EXECUTION_PROVIDER: onnxruntime-node has no ${provider} for ${machine}`);
  }
  try {
    const session = await InferenceSession.create(constantModel(), {
      executionProviders: [provider],
    });
    await session.release();
  } catch (error) {
    const reason = error instanceof Error ? error.message.trim() : String(error);
    throw new Error(
      `EXECUTION_PROVIDER: ${provider} does not work here. ${NEEDS[provider]}. onnxruntime says: ${reason}`,
      { cause: error },
    );
  }
}
