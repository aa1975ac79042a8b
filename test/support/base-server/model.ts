/** The model behind a fake server, and how the server tells its log-probabilities. */
import type { ModelTokenizer } from "../../../worker/engine/model/tokenizer.ts";
import { logSoftmax, type ContextLogits } from "./logits.ts";

export interface ServedModel {
  readonly logits: ContextLogits;
  readonly vocabSize: number;
  /** Absent: a server without a tokenizer route. */
  readonly tokenizer?: Pick<ModelTokenizer, "encodeCompletion">;
  /** Of llama.cpp; absent: it has no route that tells them. */
  readonly slots?: number;
  /** Whether log-probabilities are told after the temperature. */
  readonly isTempered?: boolean;
  /** Whether a token's text ends within a character. */
  readonly isPartial?: (id: number) => boolean;
  /** Changes what the server tells: a broken one. */
  readonly distort?: (logprobs: Float32Array, ids: readonly number[]) => Float32Array;
}

/** Log-probabilities [V] after a context, as the server tells them. */
export async function toldLogprobs(
  { logits, isTempered = false, distort = (logprobs) => logprobs }: ServedModel,
  ids: readonly number[],
  temperature: number,
): Promise<Float32Array> {
  const raw = await logits(ids);
  return distort(logSoftmax(isTempered ? raw.map((logit) => logit / temperature) : raw), ids);
}
