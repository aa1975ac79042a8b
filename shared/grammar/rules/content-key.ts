/** Finds equal expressions. JSON.stringify takes time in proportion to the square of the depth, which is up to 1,000 for numbers. */
import type { Expression } from "./grammar.ts";

/** Steps of a part, and characters that count as one step. */
const PART_STEPS = 2;
const CHARS_PER_STEP = 8;

/** A text that only equal expressions have, and the steps that it took. */
export function contentKey(expression: Expression): {
  readonly key: string;
  readonly steps: number;
} {
  let [key, steps] = ["", 1];
  const write = (part: Expression): void => {
    steps += PART_STEPS;
    if (typeof part === "string") {
      key += `"${part.length}:${part}`;
      steps += Math.floor(part.length / CHARS_PER_STEP);
    } else if ("rule" in part) key += `r${part.rule};`;
    else if ("byte" in part) {
      key += `b${part.byte.length}:`;
      for (const [min, max] of part.byte) key += String.fromCharCode(min, max);
      steps += part.byte.length >>> 1;
    } else if ("text" in part) {
      key += `t${part.text.length}:${part.text}${part.unless.length}:`;
      for (const [min, max] of part.unless) key += String.fromCharCode(min, max);
      steps += Math.floor(part.text.length / CHARS_PER_STEP) + (part.unless.length >>> 1);
      write(part.first);
      write(part.others);
    } else if ("of" in part) {
      key += `n${part.min},${part.max};`;
      write(part.of);
    } else {
      const isAll = "all" in part;
      key += isAll ? "(" : "[";
      for (const child of isAll ? part.all : part.any) write(child);
      key += ")";
    }
  };
  write(expression);
  return { key, steps };
}
