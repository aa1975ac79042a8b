/** Checks that the configured execution provider of onnxruntime (CPU, CUDA, WebGPU) works on this machine. */
import { InferenceSession, listSupportedBackends } from "../onnxruntime/onnxruntime.ts";
import type { ExecutionProvider } from "../../engine-client/messages.ts";
import { constantModel } from "../graph/onnx-wire.ts";

const REQUIREMENTS: Readonly<Record<Exclude<ExecutionProvider, "cpu">, string>> = {
  cuda:
    "It needs an NVIDIA GPU with its driver, and libraries that the worker's image for GPUs has. Outside an image: CUDA 12, cuDNN 9 and " +
    "ONNXRUNTIME_NODE_INSTALL=cuda12 node node_modules/onnxruntime-node/script/install.js",
  webgpu: "It needs a GPU with a Vulkan, Metal or Direct3D 12 driver",
};

/** Whether the KV cache can stay in the provider's memory. The Node binding supports this for WebGPU only. */
export const keepsCacheOnDevice = (provider: ExecutionProvider | undefined) =>
  provider === "webgpu";

/** Loads an execution provider with a minimal model. @throws Error with the reason and what the provider needs */
export async function checkProvider(provider: ExecutionProvider): Promise<void> {
  if (provider === "cpu") return;
  if (!listSupportedBackends().some(({ name }) => name === provider)) {
    const platform = `${process.platform} ${process.arch}`;
    throw new Error(
      `EXECUTION_PROVIDER: onnxruntime-node does not include ${provider} for ${platform}`,
    );
  }
  try {
    const session = await InferenceSession.create(constantModel(), {
      executionProviders: [provider],
    });
    await session.release();
  } catch (error) {
    const reason = error instanceof Error ? error.message.trim() : String(error);
    throw new Error(
      `EXECUTION_PROVIDER: ${provider} cannot be loaded. ${REQUIREMENTS[provider]}. Error of onnxruntime: ${reason}`,
      { cause: error },
    );
  }
}
