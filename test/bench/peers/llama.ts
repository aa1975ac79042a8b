/** llama.cpp with the base alone, through node-llama-cpp, with the same weights in float32 or Q8_0. */
import { ggufFile } from "../models/family.ts";
import type { Sample, BenchEngine, BenchEngineOptions, Task } from "../engines/engine.ts";

/** The used part of its interface. The package's own types are missing until it is installed. */
interface NodeLlama {
  getLlama(options: object): Promise<{ loadModel(options: object): Promise<LlamaModel> }>;
}

interface LlamaModel {
  createContext(options: object): Promise<{ getSequence(): LlamaSequence }>;
}

interface LlamaSequence {
  evaluate(tokens: readonly number[], options: object): AsyncIterable<number>;
  clearHistory(): Promise<void>;
}

const CONTEXT_TOKENS = 1152;

export async function loadLlama({ family, dtype }: BenchEngineOptions): Promise<BenchEngine> {
  const name: string = "node-llama-cpp";
  const library = (await import(name)) as NodeLlama;
  const llama = await library.getLlama({
    gpu: false,
    build: "never",
    skipDownload: true,
    progressLogs: false,
  });
  const model = await llama.loadModel({ modelPath: ggufFile(family, dtype) });
  // Its threads wait for each other in busy loops: on two cores one thread is faster than two.
  const context = await model.createContext({
    contextSize: CONTEXT_TOKENS,
    batchSize: 512,
    threads: 1,
  });
  const sequence = context.getSequence();
  return {
    async measure({ prompts: [prompt], tokens }: Task): Promise<Sample> {
      await sequence.clearHistory();
      const tokenTimesMs: number[] = [];
      const startedMs = performance.now();
      for await (const _ of sequence.evaluate(prompt!, { temperature: 0, yieldEogToken: true })) {
        tokenTimesMs.push(performance.now());
        if (tokenTimesMs.length === tokens) break;
      }
      const firstMs = tokenTimesMs[0]!;
      return {
        decodeMs: tokenTimesMs.at(-1)! - firstMs,
        decodedTokens: tokenTimesMs.length - 1,
        firstTokenMs: firstMs - startedMs,
        drafted: 0,
        accepted: 0,
      };
    },
  };
}
