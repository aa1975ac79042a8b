/** The terminals of Lark's library `common`, as patterns. */

const INT = "[0-9]+";
const SIGN = "[+-]?";
const DECIMAL = String.raw`(?:[0-9]+\.[0-9]*|\.[0-9]+)`;
const EXPONENT = `[eE]${SIGN}${INT}`;
const FLOAT = `(?:${INT}${EXPONENT}|${DECIMAL}(?:${EXPONENT})?)`;
const NUMBER = `(?:${FLOAT}|${INT})`;

export const COMMON: Readonly<Record<string, string>> = {
  DIGIT: "[0-9]",
  HEXDIGIT: "[0-9a-fA-F]",
  INT,
  SIGNED_INT: `${SIGN}${INT}`,
  DECIMAL,
  FLOAT,
  SIGNED_FLOAT: `${SIGN}${FLOAT}`,
  NUMBER,
  SIGNED_NUMBER: `${SIGN}${NUMBER}`,
  // Lark takes the shortest text, so an escaped quotation mark does not end it, and another one does.
  ESCAPED_STRING: String.raw`"(?:[^"\\\n]|\\[^\n])*"`,
  LCASE_LETTER: "[a-z]",
  UCASE_LETTER: "[A-Z]",
  LETTER: "[a-zA-Z]",
  WORD: "[a-zA-Z]+",
  CNAME: "[a-zA-Z_][a-zA-Z0-9_]*",
  WS_INLINE: String.raw`[ \t]+`,
  WS: String.raw`[ \t\f\r\n]+`,
  CR: String.raw`\r`,
  LF: String.raw`\n`,
  NEWLINE: String.raw`(?:\r?\n)+`,
  SH_COMMENT: String.raw`#[^\n]*`,
  CPP_COMMENT: String.raw`//[^\n]*`,
  C_COMMENT: String.raw`/\*(?:[^*]|\*+[^*/])*\*+/`,
  SQL_COMMENT: String.raw`--[^\n]*`,
};
