/** The APIs of remote bases, by their name in the manifest. */
import type { BaseApi, PromptForm } from "../api.ts";
import { TextVocabulary, type TokenTexts } from "../text-vocabulary.ts";
import { llamaCpp } from "./llama-cpp.ts";
import { openai } from "./openai.ts";
import { sglang } from "./sglang.ts";
import { vllm } from "./vllm.ts";

export const BASE_APIS = ["llama.cpp", "vllm", "sglang", "openai"] as const;
/** How `openai` is asked. */
export const OPENAI_PROMPTS = ["text", "chat", "chat-start"] as const satisfies PromptForm[];

export interface ApiOptions {
  /** The model's name in requests. */
  readonly model: string;
  /** Most likely tokens of a row. */
  readonly top: number;
  /** A token whose text is whole characters, for a server that must draw such a one; null if none is known. */
  readonly wholeToken: number | null;
  /** How `openai` is asked; the others take ids. */
  readonly prompts: (typeof OPENAI_PROMPTS)[number];
  readonly texts: TokenTexts;
  readonly bosId: number | null;
}

export function baseApi(
  name: (typeof BASE_APIS)[number],
  { model, top, wholeToken, prompts, texts, bosId }: ApiOptions,
): BaseApi {
  switch (name) {
    case "llama.cpp":
      return llamaCpp(wholeToken);
    case "vllm":
      return vllm(model, top);
    case "sglang":
      return sglang();
    case "openai":
      return openai({ model, top, prompts, bosId, vocabulary: new TextVocabulary(texts) });
  }
}
