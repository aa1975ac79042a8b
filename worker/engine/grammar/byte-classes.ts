/**
 * Bytes that a JSON string contains as they are, in classes: the letters and digits of a pattern such as [a-z0-9_-] come in these
 * groups, so one number tells for many tokens at once whether a place allows all their bytes.
 */

/** Whether a byte is an ASCII character that a JSON string contains as it is. */
export const isPlainByte = (byte: number) =>
  byte >= 0x20 && byte < 0x7f && byte !== 0x22 && byte !== 0x5c;

const CLASSES = [
  "0123456789",
  "abcdef",
  "ghijklmnopqrstuvwxyz",
  "ABCDEF",
  "GHIJKLMNOPQRSTUVWXYZ",
  // Each of these is often the only one that a pattern allows beside letters and digits, or the only one that it does not.
  ...Array.from(" -_./:@,+()#'&=?%;*!~$"),
  "<>[]^`{|}",
];

export const PLAIN_CLASSES: readonly { readonly bit: number; readonly bytes: readonly number[] }[] =
  CLASSES.map((characters, i) => ({
    bit: 1 << i,
    bytes: Array.from(characters, (character) => character.charCodeAt(0)),
  }));

/** All classes. */
export const ALL_PLAIN = PLAIN_CLASSES.reduce((all, { bit }) => all | bit, 0);

/** By byte: the bit of its class; 0 for a byte that is not plain. */
export const CLASS_OF = new Int32Array(256);
for (const { bit, bytes } of PLAIN_CLASSES) for (const byte of bytes) CLASS_OF[byte] = bit;
