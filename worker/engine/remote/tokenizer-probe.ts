/** Compares the tokenizer of a remote base with the one in the manifest: with other ids, every row would be a wrong one. */
import type { Expected, Prober } from "./prober.ts";

/** Texts on which tokenizers differ: spaces, digits, line breaks, accents, scripts, emoji, code. */
export const HARD_TEXTS = [
  "the capital of france",
  " leading and  double   spaces ",
  "12345 67,890.12 3e-7",
  "line\nbreak\n\n\ttab",
  "naïve café Ünïcödé",
  "日本語のテキスト и кириллица",
  "👩‍👩‍👧 emoji",
  "if (a != b) { return c->d; } // x",
];

/** @returns warnings @throws Error with reason and remedy */
export async function compareTokenizers(
  prober: Pick<Prober, "tokenize">,
  { encode, specialTexts, checkTokenizer }: Expected,
): Promise<string[]> {
  if (!checkTokenizer) return [];
  for (const text of [...HARD_TEXTS, ...specialTexts]) {
    const own = encode(text);
    if (own === null) continue;
    const theirs = await prober.tokenize(text);
    if (theirs === null) {
      return ["its tokenizer cannot be compared, because it has no route for it"];
    }
    if (own.join() === theirs.join()) continue;
    throw new Error(
      `its tokenizer makes [${theirs.slice(0, 8).join(", ")}] of ${JSON.stringify(text)}, and the one in the manifest [${own.slice(0, 8).join(", ")}]. Use the tokenizer files of the model that it serves`,
    );
  }
  return [];
}
