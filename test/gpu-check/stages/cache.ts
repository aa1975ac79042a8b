/** Where the KV cache of a model lies, and what a step moves because of it. */
import type { Tensor } from "../../../worker/engine/onnxruntime/onnxruntime.ts";
import { loadDecoder } from "../../../worker/engine/model/model-folder.ts";
import { family, ROLES } from "../../bench/models/family.ts";
import type { Row, StageInput } from "../stage.ts";

const TOKENS = 128;
const TOKEN = 5;

export async function* cache(input: StageInput): AsyncGenerator<Row, void, undefined> {
  const folders = family(input.family);
  for (const role of ROLES) {
    const options = {
      dtype: "fp32",
      intraOpThreads: 0,
      executionProvider: input.provider,
    } as const;
    const decoder = await loadDecoder(folders[role], options);
    const sequence = decoder.open();
    await decoder.prefill(
      sequence,
      Array.from({ length: TOKENS }, () => TOKEN),
    );
    const { past = {} } = sequence as { past?: Readonly<Record<string, Tensor>> };
    const places = new Set(Object.values(past).map(({ location }) => location));
    const place = places.size > 0 ? [...places].join(", ") : "JS memory";
    yield {
      model: role,
      "KV cache in": place,
      [`KiB at ${TOKENS} tokens`]: decoder.cacheBytes / 1024,
      "moved to the device in each step": moved(input.provider, place),
      batches: decoder.fallbackReason ?? "yes",
    };
  }
}

function moved(provider: string, place: string): string {
  if (provider === "cpu") return "nothing";
  return place === "gpu-buffer" ? "nothing" : "the whole cache";
}
