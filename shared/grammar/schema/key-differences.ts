/** Where keys that are not declared can differ from the declared names: the characters that may follow a node of their tree. */
import type { CharSet } from "refa";
import type { Expression } from "../rules/grammar.ts";
import { codesWith } from "../rules/utf8.ts";
import { ANY_CHARACTER, ESCAPED, IN_JSON, setOf } from "../text/characters.ts";
import type { Meter } from "../text/meter.ts";
import type { TextDfa, TextState } from "../text/text-dfa.ts";
import { isPlain, type KeyNode } from "./keys.ts";

/** Steps of a look at the characters after a node, beside those of each character. */
const DIFFERENT_STEPS = 16;

/** A character that is written in JSON, and the state of the other keys' automaton after it. */
interface NearCharacter {
  readonly character: Expression;
  readonly to: number;
}

export class KeyDifferences {
  readonly #otherKeys: TextDfa;
  readonly #meter: Meter;
  /** By the state and the characters after a node. */
  readonly #mayDiffer = new Map<string, boolean>();
  /** By a state of the automaton, and a first byte of its characters. */
  readonly #edges = new Map<number, TextState["edges"]>();

  constructor(otherKeys: TextDfa, meter: Meter) {
    this.#otherKeys = otherKeys;
    this.#meter = meter;
  }

  /** Whether a key that is not declared can go on or end at a node, unlike all declared names. */
  mayDiffer(node: KeyNode): boolean {
    const { edges, outcome } = this.#otherKeys.states[node.state]!;
    if (outcome > 0 && node.name < 0) return true;
    if (edges.length === 1 && edges[0]!.set === ANY_CHARACTER) return true;
    const key = `${node.state} ${characterList(node)}`;
    const known = this.#mayDiffer.get(key);
    if (known !== undefined) return known;
    this.#meter.spend(DIFFERENT_STEPS + (edges.length + node.children.size) * 4);
    const declared = charactersAfter(node);
    const mayDiffer = edges.some(({ set }) => !set.without(declared).isEmpty);
    this.#mayDiffer.set(key, mayDiffer);
    return mayDiffer;
  }

  /** The characters that lead to no child of a node, but begin with the same byte as one that does. */
  near(node: KeyNode): NearCharacter[] {
    const declared = charactersAfter(node);
    const result: NearCharacter[] = [];
    for (const byte of firstBytes(node).filter(mayBeShared)) {
      this.#meter.spend(DIFFERENT_STEPS + node.children.size);
      for (const { set, to } of this.#edgesWith(node.state, byte)) {
        const near = set.without(declared);
        this.#meter.spend(2 + near.ranges.length);
        const character = IN_JSON(near);
        if (character !== null) result.push({ character, to });
      }
    }
    return result;
  }

  /** The edges of a state, with the characters that begin with a byte. */
  #edgesWith(state: number, byte: number): TextState["edges"] {
    const key = state * 256 + byte;
    const known = this.#edges.get(key);
    if (known) return known;
    const { edges } = this.#otherKeys.states[state]!;
    const characters = byte === BACKSLASH ? ESCAPED : setOf([codesWith(byte)]);
    const result = edges
      .map(({ set, to }) => {
        this.#meter.spend(2 + (set.ranges.length >>> 3));
        return { set: set.intersect(characters), to };
      })
      .filter(({ set }) => !set.isEmpty);
    this.#edges.set(key, result);
    return result;
  }
}

const BACKSLASH = 0x5c;
/** Whether several characters of a JSON string begin with a byte. */
export const mayBeShared = (byte: number) => byte >= 0x80 || byte === BACKSLASH;

const encoder = new TextEncoder();

/** The bytes with which the texts of a node's children begin. */
export function firstBytes({ children }: KeyNode): number[] {
  const bytes = Array.from(children.values(), ({ text }) =>
    isPlain(text) ? text.charCodeAt(0) : encoder.encode(text)[0]!,
  );
  return [...new Set(bytes)];
}

/** The characters of a node's children. The separator keeps two halves of a surrogate pair apart. */
export const characterList = ({ children }: KeyNode) => [...children.keys()].join(" ");

function charactersAfter({ children }: KeyNode): CharSet {
  const codes = Array.from(children.keys(), (character) => character.codePointAt(0)!);
  return setOf(codes.map((code) => ({ min: code, max: code })));
}
