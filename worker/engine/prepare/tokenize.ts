/** Answers a request for the base's tokenizer: token ids of a text or a conversation, the text of ids, or its configuration. */
import { AppError } from "../../../shared/api/errors.ts";
import type { Input } from "../../../shared/jobs/record.ts";
import type {
  TokenizerAnswer,
  TokenizerRequest,
} from "../../../shared/workers/tokenizer-requests.ts";
import type { EnsembleTokenizers } from "../model/ensemble-tokenizers.ts";

/** A text may be longer than the context, such as one that is scored in parts. 100 ms of work. */
const TOKENS_MAX = 32_768;

/** @returns an answer of the kind "error" for what is wrong with the request */
export function answerQuestion(
  ensembles: ReadonlyMap<string, EnsembleTokenizers>,
  { model, question }: Pick<TokenizerRequest, "model" | "question">,
): TokenizerAnswer {
  const ensemble = ensembles.get(model);
  try {
    if (!ensemble) {
      throw new AppError("model_not_found", `This worker does not serve ${model}`);
    }
    switch (question.kind) {
      case "info":
        return { kind: "info", info: ensemble.tokenizerInfo };
      case "decode":
        return { kind: "decode", text: decode(ensemble, question.ids) };
      case "encode": {
        const { input, addSpecialTokens, withTexts } = question;
        const ids = encode(ensemble, input as Input, addSpecialTokens);
        const texts = withTexts ? ids.map((id) => ensemble.tokenText(id).token) : null;
        return { kind: "encode", ids, texts };
      }
    }
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    const { code, message, param } = error;
    return { kind: "error", code, message, param };
  }
}

function encode(ensemble: EnsembleTokenizers, input: Input, addSpecialTokens: boolean): number[] {
  const tokensMax = Math.max(TOKENS_MAX, ensemble.contextTokens);
  if (input.kind === "text" && input.text === "") return [];
  if (input.kind === "text" && !addSpecialTokens) {
    return ensemble.encodeCompletion(input.text, tokensMax, "prompt");
  }
  return ensemble.encodePrompt("base", input, { tokensMax });
}

/** Special tokens are written out. @throws AppError invalid_request for an id that no token has */
function decode({ tokenText, vocabSize, id }: EnsembleTokenizers, ids: readonly number[]): string {
  const unknown = ids.findIndex((token) => token >= vocabSize);
  if (unknown !== -1) {
    const param = `tokens.${unknown}`;
    const message = `${param}: token ids of ${id} are below ${vocabSize}, received ${ids[unknown]}`;
    throw new AppError("invalid_request", message, { param });
  }
  const bytes = ids.flatMap((token) => {
    const text = tokenText(token);
    return text.bytes ?? [...new TextEncoder().encode(text.token)];
  });
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(bytes));
}
