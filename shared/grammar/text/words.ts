/** The automaton of a list of words. */
import type { CharSet } from "refa";
import { setOf } from "./characters.ts";
import type { Meter } from "./meter.ts";
import type { TextDfa } from "./text-dfa.ts";

export function wordsDfa(words: readonly string[], meter: Meter): TextDfa {
  const states: { edges: { set: CharSet; to: number }[]; outcome: number }[] = [];
  const add = () => states.push({ edges: [], outcome: 0 }) - 1;
  const next = [new Map<number, number>()];
  add();
  for (const word of words) {
    meter.spend(1 + word.length);
    let at = 0;
    for (const character of word) {
      const code = character.codePointAt(0)!;
      let to = next[at]!.get(code);
      if (to === undefined) {
        to = add();
        next.push(new Map());
        next[at]!.set(code, to);
        states[at]!.edges.push({ set: setOf([{ min: code, max: code }]), to });
      }
      at = to;
    }
    states[at]!.outcome = 1;
  }
  return { states };
}
