/**
 * Checks a base that takes text and has no route for its tokenizer. It counts the tokens of its prompts, and these counts must be
 * those of the tokenizer in the manifest. That the texts of its tokens are in the vocabulary is checked with every row.
 */
import type { Expected, Prober } from "./prober.ts";
import { HARD_TEXTS } from "./tokenizer-probe.ts";

const QUESTION = { role: "user", content: HARD_TEXTS[0]! } as const;
const REPLY = "the capital of france";

/** @returns warnings @throws Error with reason and remedy */
export async function compareTokenCounts(
  prober: Pick<Prober, "rows">,
  { encode, bosId, specialTexts, checkTokenizer }: Expected,
): Promise<string[]> {
  if (!checkTokenizer) return [];
  for (const text of [...HARD_TEXTS, ...specialTexts]) {
    const own = encode(text);
    if (own === null) continue;
    const context = bosId === null ? own : [bosId, ...own];
    const { promptTokens } = await prober.rows({ context, drafts: [], top: 1, temperature: 1 });
    if (promptTokens === null) {
      return ["its tokenizer cannot be compared, because its replies have no usage.prompt_tokens"];
    }
    if (promptTokens === context.length) continue;
    throw new Error(
      `its tokenizer makes ${promptTokens} tokens of ${JSON.stringify(text)}, and the one in the manifest ${context.length}. Use the tokenizer files of the model that it serves`,
    );
  }
  return [];
}

/**
 * A reply that is continued adds its own tokens to the prompt. One that is ended, before a new one begins, adds the tokens of a
 * turn as well.
 * @throws Error with reason and remedy
 */
export async function checkContinues(
  prober: Pick<Prober, "rows">,
  { encode }: Pick<Expected, "encode">,
): Promise<void> {
  const reply = encode(REPLY) ?? [];
  const tokensOf = async (context: readonly number[]) => {
    const chat = { messages: [QUESTION], replyFrom: 0 };
    const query = { context, chat, drafts: [], top: 1, temperature: 1 };
    return (await prober.rows(query)).promptTokens;
  };
  const [without, withReply] = [await tokensOf([]), await tokensOf(reply)];
  const added = without === null || withReply === null ? null : withReply - without;
  // A template that ends with a space joins it to the first token.
  if (added === reply.length || added === reply.length - 1) return;
  const reason =
    added === null
      ? "its replies do not say whether it continues a reply (usage.prompt_tokens)"
      : `it begins a new reply instead of continuing the last message: ${reply.length} tokens of a reply make its prompt ${added} tokens longer`;
  throw new Error(
    `${reason}. Use "prompts": "text" if it has /completions, or "prompts": "chat-start" to score choices of one token`,
  );
}
