/**
 * Bounds that are known before a text is tokenized, from tokenizer.json alone. They are conservative: a text that fits the
 * context is never beyond them. Where a tokenizer may drop text, there is no bound.
 */
import { BYTE_LEVEL_BYTES } from "./token-text.ts";

/** The parts of tokenizer.json that decide how many bytes of a text one token can stand for. */
export interface TokenizerSpec {
  readonly normalizer?: Step | null;
  readonly pre_tokenizer?: Step | null;
  readonly added_tokens?: readonly {
    readonly content: string;
    readonly special?: boolean;
    readonly normalized?: boolean;
    readonly lstrip?: boolean;
    readonly rstrip?: boolean;
  }[];
  readonly model?: {
    readonly type?: string;
    readonly vocab?: Readonly<Record<string, number>> | readonly unknown[];
    readonly unk_token?: string | null;
    readonly fuse_unk?: boolean;
    readonly byte_fallback?: boolean;
  };
}

interface Step {
  readonly type?: string;
  readonly normalizers?: readonly Step[];
  readonly pretokenizers?: readonly Step[];
  readonly pattern?: { readonly String?: string };
  readonly content?: string;
  readonly behavior?: string;
  readonly invert?: boolean;
}

export interface PromptBounds {
  /** Most bytes of a text, as UTF-8, that one token can stand for. */
  readonly tokenBytesMax: number;
  /** Most UTF-16 code units of a pre-tokenized piece that one token can stand for. */
  readonly tokenCharsMax: number;
}

/** Null if a text of any length may become few tokens. */
export function promptBounds(spec: TokenizerSpec): PromptBounds | null {
  const shrink = normalizerShrink(spec.normalizer ?? null);
  if (
    shrink === Number.POSITIVE_INFINITY ||
    !keepsText(spec.pre_tokenizer ?? null) ||
    !encodesText(spec)
  )
    return null;
  const added = spec.added_tokens ?? [];
  // Such a token takes all spaces beside it.
  if (added.some(({ lstrip, rstrip }) => lstrip || rstrip)) return null;
  const isByteLevel = isByteLevelSpec(spec);
  const entries = Object.keys(spec.model!.vocab!);
  const contents = added.map(({ content }) => content);
  // A character of a byte-level entry stands for one byte.
  const entryBytes = entries.map((entry) => (isByteLevel ? entry.length : utf8Length(entry)));
  const bytes = maxOf([...entryBytes, ...contents.map(utf8Length)]);
  return {
    tokenBytesMax: Math.ceil(bytes * shrink),
    tokenCharsMax: maxOf([...entries, ...contents].map(({ length }) => length)),
  };
}

/** Bytes of a text as UTF-8. */
export const utf8Length = (text: string) => Buffer.byteLength(text);

/**
 * How many times shorter a normalizer can make a text, in bytes. Found by trying all code points and compositions: the Kelvin
 * sign has 3 bytes and its small letter one; U+1FBE U+0308 U+0301 are 7 bytes and 2 in NFC; a mathematical letter has 4 bytes
 * and one in NFKC.
 */
const SHRINKS: Readonly<Record<string, number>> = {
  Prepend: 1,
  Lowercase: 3,
  NFC: 4,
  NFD: 4,
  NFKC: 4,
  NFKD: 4,
};

/** As `SHRINKS`; Infinity if the normalizer may drop text. */
function normalizerShrink(step: Step | null): number {
  if (!step?.type) return 1;
  if (step.type === "Sequence") {
    return (step.normalizers ?? []).reduce((product, part) => product * normalizerShrink(part), 1);
  }
  const from = step.pattern?.String;
  if (step.type === "Replace" && from && step.content)
    return Math.max(1, utf8Length(from) / utf8Length(step.content));
  return SHRINKS[step.type] ?? Number.POSITIVE_INFINITY;
}

/** Whether the pieces of a pre-tokenizer contain the whole text. */
function keepsText(step: Step | null): boolean {
  switch (step?.type) {
    case undefined:
    case "ByteLevel":
    case "Metaspace":
    case "Digits":
    case "Punctuation":
      return true;
    case "Split":
      return !step.invert && step.behavior?.toLowerCase() !== "removed";
    case "Sequence":
      return (step.pretokenizers ?? []).every(keepsText);
    default:
      return false;
  }
}

/** Whether each character of a piece is part of some token, and unknown characters are not joined to one token. */
function encodesText(spec: TokenizerSpec): boolean {
  const { model } = spec;
  if (model?.type !== "BPE" || !model.vocab || Array.isArray(model.vocab)) return false;
  const vocab = new Set(Object.keys(model.vocab));
  if (isByteLevelSpec(spec))
    return [...BYTE_LEVEL_BYTES.keys()].every((character) => vocab.has(character));
  if (model.byte_fallback) return byteTokens().every((token) => vocab.has(token));
  return typeof model.unk_token === "string" && !model.fuse_unk;
}

function isByteLevelSpec({ pre_tokenizer: step }: TokenizerSpec): boolean {
  const steps = step?.type === "Sequence" ? (step.pretokenizers ?? []) : [step];
  return steps.some((part) => part?.type === "ByteLevel");
}

const byteTokens = () =>
  Array.from(
    { length: 256 },
    (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`,
  );

/** `Math.max(...values)` would overflow the stack with the entries of a vocabulary. */
const maxOf = (values: readonly number[]) => values.reduce((a, b) => Math.max(a, b), 1);
