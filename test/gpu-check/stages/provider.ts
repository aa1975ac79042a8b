/** Loads a provider, then a model. */
import { listSupportedBackends } from "../../../worker/engine/onnxruntime/onnxruntime.ts";
import { checkProvider } from "../../../worker/engine/model/provider.ts";
import { loadDecoder } from "../../../worker/engine/model/model-folder.ts";
import { family } from "../../bench/models/family.ts";
import type { StageInput, Row } from "../stage.ts";

export async function* provider(input: StageInput): AsyncGenerator<Row, void, undefined> {
  const { provider } = input;
  const backend = listSupportedBackends().find(({ name }) => name === provider);
  const startedMs = performance.now();
  await checkProvider(provider);
  const loadedMs = performance.now();
  const options = { dtype: "fp32", intraOpThreads: 0, executionProvider: provider } as const;
  await loadDecoder(family("demo").base, options);
  yield {
    "in the package": backend?.bundled ? "yes" : "no",
    "load ms": loadedMs - startedMs,
    "model load ms": performance.now() - loadedMs,
  };
}
