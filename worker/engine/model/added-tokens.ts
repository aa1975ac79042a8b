/** The special tokens around a plain prompt, as transformers adds them. */

export interface SpecialTokenConfig {
  readonly tokenizer_class?: unknown;
  readonly add_bos_token?: unknown;
  readonly add_eos_token?: unknown;
}

/**
 * Tokenizers whose special tokens follow `add_bos_token` and `add_eos_token`, and whether they begin with a BOS by default. With all
 * others these two say nothing: the post-processor of tokenizer.json decides.
 */
const BOS_DEFAULTS: Readonly<Record<string, boolean>> = {
  LlamaTokenizer: true,
  CodeLlamaTokenizer: true,
  GemmaTokenizer: true,
  CohereTokenizer: true,
  GPTNeoXTokenizer: false,
};

/** Whether a plain prompt gets a BOS and an EOS; null if the post-processor of tokenizer.json decides. */
export function addedTokens(config: SpecialTokenConfig): { bos: boolean; eos: boolean } | null {
  const { tokenizer_class: name, add_bos_token: bos, add_eos_token: eos } = config;
  if (typeof name !== "string") return null;
  const family = name.replace(/Fast$/, "");
  if (!Object.hasOwn(BOS_DEFAULTS, family)) return null;
  return { bos: typeof bos === "boolean" ? bos : BOS_DEFAULTS[family]!, eos: eos === true };
}
