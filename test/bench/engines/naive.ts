/**
 * A straightforward implementation with onnxruntime and three models: default session options, and every `present` is passed
 * to the next run as `past`.
 */
import { join } from "node:path";
import { InferenceSession, Tensor } from "../../../worker/engine/onnxruntime/onnxruntime.ts";
import { combineLogits } from "../../../worker/engine/decode/combine.ts";
import { argmax } from "../../../worker/engine/decode/exp.ts";
import { family, ROLES } from "../models/family.ts";
import {
  ALPHA,
  type Sample,
  type BenchEngine,
  type BenchEngineOptions,
  type Task,
} from "./engine.ts";

export async function loadNaive(options: BenchEngineOptions): Promise<BenchEngine> {
  const folders = family(options.family);
  const file = options.dtype === "fp32" ? "model.onnx" : "model_quantized.onnx";
  const sessions: InferenceSession[] = [];
  for (const role of ROLES)
    sessions.push(await InferenceSession.create(join(folders[role], "onnx", file)));
  return { measure: (task) => measure(sessions, task) };
}

async function measure(
  sessions: readonly InferenceSession[],
  { prompts, tokens }: Task,
): Promise<Sample> {
  const startedMs = performance.now();
  const models = sessions.map((session) => new NaiveModel(session));
  let ids: readonly number[] = prompts[0]!;
  let firstMs = 0;
  for (let count = 0; count < tokens; count++) {
    const logits: Float32Array[] = [];
    for (const model of models) logits.push(await model.run(ids));
    const [base, expert, antiexpert] = logits as [Float32Array, Float32Array, Float32Array];
    const steered = new Float32Array(base.length);
    combineLogits(steered, base, expert, antiexpert, ALPHA);
    ids = [argmax(steered)];
    if (count === 0) firstMs = performance.now();
  }
  const decodeMs = performance.now() - firstMs;
  return {
    decodeMs,
    decodedTokens: tokens - 1,
    firstTokenMs: firstMs - startedMs,
    drafted: 0,
    accepted: 0,
  };
}

class NaiveModel {
  readonly #session: InferenceSession;
  #past: Record<string, Tensor> = {};
  #length = 0;

  constructor(session: InferenceSession) {
    this.#session = session;
    for (const input of session.inputMetadata) {
      if (!input.isTensor || !input.name.startsWith("past_key_values.")) continue;
      const dims = input.shape.map((axis, i) =>
        typeof axis === "number" ? axis : i === 0 ? 1 : 0,
      );
      this.#past[input.name] = new Tensor("float32", new Float32Array(), dims);
    }
  }

  /** Appends tokens. @returns logits after the last one */
  async run(ids: readonly number[]): Promise<Float32Array> {
    const totalLength = this.#length + ids.length;
    const integers = (values: readonly number[]) =>
      new Tensor("int64", BigInt64Array.from(values, BigInt), [1, values.length]);
    const results = await this.#session.run({
      ...this.#past,
      input_ids: integers(ids),
      attention_mask: integers(Array.from({ length: totalLength }, () => 1)),
      position_ids: integers(ids.map((_, i) => this.#length + i)),
    });
    this.#length = totalLength;
    for (const name of Object.keys(this.#past)) {
      this.#past[name] = results[name.replace("past_key_values", "present")] as Tensor;
    }
    const logits = results["logits"]!;
    const width = logits.dims.at(-1)!;
    return (logits.data as Float32Array).subarray((ids.length - 1) * width, ids.length * width);
  }
}
