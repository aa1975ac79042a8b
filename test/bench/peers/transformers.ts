/** transformers.js with the base alone: greedy `generate()` with the same model files. */
import { basename, dirname } from "node:path";
// Its own onnxruntime is loaded later, by loadTransformers.
import "../../../worker/engine/onnxruntime/telemetry-off.ts";
import { family } from "../models/family.ts";
import type { Sample, BenchEngine, BenchEngineOptions, Task } from "../engines/engine.ts";

/** The used part of its interface. The package's own types are missing until it is installed. */
interface Transformers {
  readonly env: { allowRemoteModels: boolean; localModelPath: string };
  readonly AutoModelForCausalLM: {
    from_pretrained(
      name: string,
      options: object,
    ): Promise<{ generate(options: object): Promise<unknown> }>;
  };
  readonly Tensor: new (type: string, data: BigInt64Array, dims: readonly number[]) => unknown;
}

export async function loadTransformers({
  family: familyName,
  dtype,
}: BenchEngineOptions): Promise<BenchEngine> {
  const { base } = family(familyName);
  const name: string = "@huggingface/transformers";
  const { env, AutoModelForCausalLM, Tensor } = (await import(name)) as Transformers;
  env.allowRemoteModels = false;
  env.localModelPath = dirname(base);
  const model = await AutoModelForCausalLM.from_pretrained(basename(base), {
    device: "cpu",
    dtype: dtype === "fp32" ? "fp32" : "q8",
  });
  return {
    async measure({ prompts: [prompt], tokens }: Task): Promise<Sample> {
      const integers = (values: BigInt64Array) => new Tensor("int64", values, [1, values.length]);
      const callTimesMs: number[] = [];
      const startedMs = performance.now();
      await model.generate({
        inputs: integers(BigInt64Array.from(prompt!, BigInt)),
        attention_mask: integers(new BigInt64Array(prompt!.length).fill(1n)),
        max_new_tokens: tokens,
        do_sample: false,
        // Without an end-of-sequence token, so that all engines generate the same number of tokens.
        eos_token_id: null,
        streamer: { put: () => callTimesMs.push(performance.now()), end() {} },
      });
      // The streamer is called with the prompt first.
      const [, first, ...rest] = callTimesMs as [number, number, ...number[]];
      const decodeMs = rest.at(-1)! - first;
      if (rest.length !== tokens - 1)
        throw new Error(`Generated ${rest.length + 1} of ${tokens} tokens`);
      return {
        decodeMs,
        decodedTokens: rest.length,
        firstTokenMs: first - startedMs,
        drafted: 0,
        accepted: 0,
      };
    },
  };
}
