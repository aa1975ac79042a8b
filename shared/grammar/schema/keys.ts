/** The names that a schema declares for an object, as a tree of their characters: a key is one of them or differs from all. */
import type { Meter } from "../text/meter.ts";
import type { TextDfa } from "../text/text-dfa.ts";

export interface KeyNode {
  readonly id: number;
  /** The character that leads to the node, as JSON.stringify writes it. */
  readonly text: string;
  readonly children: ReadonlyMap<string, KeyNode>;
  /** The index of the name that ends here; -1 for none. */
  readonly name: number;
  /** The indices of all names that begin with this text, in ascending order. */
  readonly below: readonly number[];
  /** The state of the other keys' automaton after this text; -1 if no other key begins so. */
  readonly state: number;
}

interface Growing {
  id: number;
  text: string;
  children: Map<string, Growing>;
  name: number;
  below: number[];
  state: number;
}

/** @param others the automaton of the keys that are not declared */
export function keyTree(names: readonly string[], others: TextDfa, meter: Meter): KeyNode {
  let nodes = 0;
  const create = (character: string, state: number): Growing => ({
    id: nodes++,
    text: JSON.stringify(character).slice(1, -1),
    children: new Map(),
    name: -1,
    below: [],
    state,
  });
  const root = create("", 0);
  for (const [index, name] of names.entries()) {
    let node = root;
    node.below.push(index);
    for (const character of name) {
      let child = node.children.get(character);
      if (!child) {
        meter.spend(1 + ((others.states[node.state]?.edges.length ?? 0) >>> 3));
        child = create(character, step(others, node.state, character));
        node.children.set(character, child);
      }
      child.below.push(index);
      node = child;
    }
    node.name = index;
  }
  return root;
}

function step({ states }: TextDfa, state: number, character: string): number {
  const code = character.codePointAt(0)!;
  return states[state]?.edges.find(({ set }) => set.has(code))?.to ?? -1;
}

/** Whether the text of a character is one byte of a JSON string. */
export const isPlain = (text: string) => text.length === 1 && text.charCodeAt(0) < 0x80;
