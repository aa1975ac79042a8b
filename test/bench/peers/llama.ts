/** llama.cpp with the base alone, through node-llama-cpp: the same weights as float32 or Q8_0. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Sample, Subject, SubjectOptions, Task } from "../subjects/subject.ts";

/** The part of its interface that is used; its own types are not there before it is installed. */
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

export async function loadLlama({ family, dtype }: SubjectOptions): Promise<Subject> {
  const file = join(family.base, `llama-${dtype}.gguf`);
  if (!existsSync(file)) throw new Error("no GGUF is made of this family");
  const name: string = "node-llama-cpp";
  const library = (await import(name)) as NodeLlama;
  const llama = await library.getLlama({
    gpu: false,
    build: "never",
    skipDownload: true,
    progressLogs: false,
  });
  const model = await llama.loadModel({ modelPath: file });
  // Its threads wait for each other by turning in circles: on two cores one is faster than two.
  const context = await model.createContext({
    contextSize: CONTEXT_TOKENS,
    batchSize: 512,
    threads: 1,
  });
  const sequence = context.getSequence();
  return {
    async measure({ prompts: [prompt], tokens }: Task): Promise<Sample> {
      await sequence.clearHistory();
      const marksMs: number[] = [];
      const startedMs = performance.now();
      for await (const _ of sequence.evaluate(prompt!, { temperature: 0, yieldEogToken: true })) {
        marksMs.push(performance.now());
        if (marksMs.length === tokens) break;
      }
      const firstMs = marksMs[0]!;
      return {
        decodeMs: marksMs.at(-1)! - firstMs,
        decodedTokens: marksMs.length - 1,
        firstTokenMs: firstMs - startedMs,
        drafted: 0,
        accepted: 0,
      };
    },
  };
}
