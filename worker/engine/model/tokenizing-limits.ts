/** Bounds of the time that tokenizing a text takes. */
import type { Tokenizer } from "@huggingface/tokenizers";
import { AppError } from "../../../shared/api/errors.ts";
import type { PromptBounds } from "./prompt-bounds.ts";

/**
 * Most combining characters in a row. Normalizing a run takes time with the square of its length (33 s for 250,000); real
 * texts have fewer than ten.
 */
const COMBINING_CHARACTERS_MAX = 256;

/** Thrown when a text has more tokens than it may have; the rest of it is not tokenized. */
export class TooManyTokens extends Error {
  /** The bytes of the text, if they alone show that it is too long; otherwise tokens that it has at least. */
  readonly size: { readonly bytes: number } | { readonly tokens: number };

  constructor(size: TooManyTokens["size"]) {
    super("The text has too many tokens");
    this.size = size;
  }
}

/**
 * Lets the tokenizer throw TooManyTokens as soon as a text has more tokens than it may have. The library gives all pieces of
 * a text to its model at once, so without this a text of a megabyte would be tokenized to its end before it is refused.
 * @returns a function that ends this
 */
export function countTokens(
  tokenizer: Tokenizer,
  tokensMax: number,
  bounds: PromptBounds | null,
): () => void {
  const model = tokenizer.model as { encode(pieces: string[]): string[] } & Record<string, unknown>;
  const encode = model.encode.bind(model);
  const unknown = model["unk_token"];
  let left = tokensMax;
  const tooMany = (further: number) =>
    new TooManyTokens({ tokens: tokensMax - left + Math.ceil(further) });
  model.encode = (pieces) => {
    const tokens: string[] = [];
    for (const piece of pieces) {
      // A long piece (a text without spaces) is one call of the library.
      if (bounds && piece.length > left * bounds.tokenCharsMax)
        throw tooMany(piece.length / bounds.tokenCharsMax);
      for (const token of encode([piece])) {
        tokens.push(token);
        // The library may join unknown tokens to one later.
        if (token !== unknown) left--;
      }
      if (left < 0) throw tooMany(0);
    }
    return tokens;
  };
  return () => {
    delete (model as Partial<typeof model>).encode;
  };
}

/** @throws AppError invalid_request */
export function checkCombiningCharacters(text: string, field: string): void {
  for (const [run] of text.matchAll(/[\p{M}\uff9e\uff9f]+/gu)) {
    if (run.length <= COMBINING_CHARACTERS_MAX) continue;
    throw new AppError(
      "invalid_request",
      `${field}: at most ${COMBINING_CHARACTERS_MAX} combining characters may follow each other, received ${run.length}`,
      { param: field },
    );
  }
}
