/**
 * Runs. A run is a place from which all plain bytes lead to the same next place, as inside a string. Tokens of such bytes are
 * allowed together, without a look at each byte. So are those of a closed place, from which they lead to several places, but always to
 * one where they may go on, as in the search for a word.
 */
import { ALL_PLAIN, PLAIN_CLASSES } from "./byte-classes.ts";
import type { Frame } from "./call-stack.ts";

/** A state of the automaton and a stack of calls. */
export interface Place {
  readonly state: number;
  readonly frame: Frame | null;
}

/** Reads a byte at a place; if it is allowed, `nextState` and `nextFrame` are the place after it. */
export interface Walker {
  readonly nextState: number;
  readonly nextFrame: Frame | null;
  step(state: number, frame: Frame | null, byte: number): boolean;
}

/** More than the kinds that a stack numbers: a new frame has at most one. It drops them every 65,536 frames, but uses no number again. */
const KINDS_MAX = 2 ** 32;
/** Runs that are kept. */
const RUNS_MAX = 2 ** 16;

const range = (min: number, max: number) =>
  Array.from({ length: max - min + 1 }, (_, i) => min + i);
const REST = range(0x80, 0xbf);
/**
 * The characters of more than one byte in UTF-8: the bytes at each place. Without U+2028 and U+2029, which a dot of a pattern does not
 * match: the trie's tokens of whole characters have none of them.
 */
const WIDE: readonly (readonly number[])[][] = [
  [range(0xc2, 0xdf), REST],
  [[0xe0], range(0xa0, 0xbf), REST],
  [[0xe1, ...range(0xe3, 0xec)], REST, REST],
  [[0xe2], [0x80], [...range(0x80, 0xa7), ...range(0xaa, 0xbf)]],
  [[0xe2], range(0x81, 0xbf), REST],
  [[0xed], range(0x80, 0x9f), REST],
  [range(0xee, 0xef), REST, REST],
  [[0xf0], range(0x90, 0xbf), REST, REST],
  [range(0xf1, 0xf3), REST, REST, REST],
  [[0xf4], range(0x80, 0x8f), REST, REST],
];

/** Places that are looked at to find out whether a place is closed. */
const CLOSED_PLACES_MAX = 16;

/** Whether two places have the same masks. */
const isSame = (a: Place, b: Place) =>
  a.state === b.state && (a.frame?.kind ?? 0) === (b.frame?.kind ?? 0);

const keyOf = ({ state, frame }: Place) => state * KINDS_MAX + (frame?.kind ?? 0);

/** The plain bytes at a place. */
interface Ways {
  readonly hasPlain: boolean;
  /** The classes (byte-classes.ts) all of whose bytes are allowed. */
  readonly allowed: number;
  /** The places to which these classes lead. */
  readonly targets: readonly { readonly place: Place; readonly classes: number }[];
  /** The classes all of whose bytes lead to the same place, and that place; 0 and null if there are none. */
  readonly classes: number;
  readonly next: Place | null;
}

/** Bytes that need no look one by one: which of them lead from a place to one and the same other place, and so on from there. */
export class Run {
  readonly ways: Ways;
  readonly #runs: Runs;
  readonly #from: Place;
  // Computed when they are needed: they lead to others.
  #next: Run | undefined;
  #wide: Run | null | undefined;
  #hasWide: boolean | undefined;
  #closed: number | undefined;
  #isClosed: boolean | undefined;

  constructor(runs: Runs, from: Place) {
    this.#runs = runs;
    this.#from = from;
    this.ways = runs.waysFrom(from);
  }

  /** The classes of plain bytes all of which lead to the next place; 0 if there are none. */
  get classes(): number {
    return this.ways.classes;
  }

  /** The run of the next place, which may be this one. */
  get next(): Run {
    const { next } = this.ways;
    return (this.#next ??= next ? this.#runs.at(next.state, next.frame) : this);
  }

  /** The run of the place to which each character of more than one byte leads; null if there is none. */
  get wide(): Run | null {
    if (this.#wide === undefined) {
      const places = this.#runs.afterWide(this.#from);
      const only = places?.length === 1 ? places[0]! : null;
      this.#wide = only && this.#runs.at(only.state, only.frame);
    }
    return this.#wide;
  }

  /** Whether any character of more than one byte is allowed. */
  get hasWide(): boolean {
    return (this.#hasWide ??= this.#runs.hasWide(this.#from));
  }

  /** The classes of plain bytes of which any number may follow, in any order. */
  get closed(): number {
    return (this.#closed ??= this.#runs.closedClasses(this.#from));
  }

  /** Whether any number of characters of any kind may follow. */
  get isClosed(): boolean {
    return (this.#isClosed ??= this.#runs.isClosed(this.#from));
  }
}

/**
 * Whether this many plain bytes of these classes are allowed, in any order. False if that is not sure.
 * @param isWorthIt whether to look for a closed place, which takes a thousand steps
 */
export function allowsPlain(
  start: Run,
  classes: number,
  count: number,
  isWorthIt: boolean,
): boolean {
  for (let run = start, left = count; left > 0; left--, run = run.next) {
    if ((classes & ~run.classes) !== 0) {
      return isWorthIt && (classes & ~run.ways.allowed) === 0 && (classes & ~run.closed) === 0;
    }
    if (run.next === run) return true;
  }
  return true;
}

/** Whether this many characters of any kind are allowed. The same holds as for plain bytes. */
export function allowsText(start: Run, count: number, isWorthIt: boolean): boolean {
  for (let run = start, left = count; left > 0; left--, run = run.next) {
    if (run.ways.allowed !== ALL_PLAIN) return false;
    if (run.classes !== ALL_PLAIN || run.wide !== run.next) return isWorthIt && run.isClosed;
    if (run.next === run) return true;
  }
  return true;
}

/**
 * How many characters are allowed, of any kind, if none may follow them.
 * @param kind whether only plain bytes come
 * @param most characters that are looked at
 * @returns null if others are allowed, or not all
 */
export function roomFor(kind: "plain" | "text", start: Run, most: number): number | null {
  let run = start;
  for (let count = 0; count < most; count++, run = run.next) {
    if (!run.ways.hasPlain && (kind === "plain" || !run.hasWide)) return count;
    if (run.classes !== ALL_PLAIN || (kind === "text" && run.wide !== run.next)) return null;
  }
  return null;
}

export class Runs {
  readonly #walker: Walker;
  /** By state and kind of stack. */
  readonly #runs = new Map<number, Run>();

  constructor(walker: Walker) {
    this.#walker = walker;
  }

  /** The run that begins at a place. It depends on the stack only through the frame's kind. */
  at(state: number, frame: Frame | null): Run {
    const key = keyOf({ state, frame });
    const known = this.#runs.get(key);
    if (known) return known;
    if (this.#runs.size > RUNS_MAX) this.#runs.clear();
    const run = new Run(this, { state, frame });
    this.#runs.set(key, run);
    return run;
  }

  waysFrom(from: Place): Ways {
    const targets: { readonly place: Place; classes: number; single: number; bytes: number }[] = [];
    let [hasPlain, allowed] = [false, 0];
    for (const { bit, bytes } of PLAIN_CLASSES) {
      const { places, isWhole } = this.#after([from], bytes);
      hasPlain ||= places.length > 0;
      if (!isWhole) continue;
      allowed |= bit;
      for (const place of places) {
        const known = targets.find((target) => isSame(target.place, place));
        const target = known ?? { place, classes: 0, single: 0, bytes: 0 };
        if (!known) targets.push(target);
        target.classes |= bit;
        if (places.length > 1) continue;
        target.single |= bit;
        target.bytes += bytes.length;
      }
    }
    const most = targets.reduce((a, b) => (b.bytes > a.bytes ? b : a), { bytes: 0 } as {
      readonly place?: Place;
      readonly single?: number;
      readonly bytes: number;
    });
    return { hasPlain, allowed, targets, classes: most.single ?? 0, next: most.place ?? null };
  }

  /** The places to which characters of more than one byte lead; null if one leads nowhere. */
  afterWide(from: Place): readonly Place[] | null {
    const result: Place[] = [];
    for (const ranges of WIDE) {
      let at: readonly Place[] = [from];
      for (const bytes of ranges) {
        const { places, isWhole } = this.#after(at, bytes);
        if (!isWhole) return null;
        at = places;
      }
      for (const place of at) if (!result.some((known) => isSame(known, place))) result.push(place);
    }
    return result;
  }

  hasWide({ state, frame }: Place): boolean {
    return WIDE.some(([first]) => first!.some((byte) => this.#walker.step(state, frame, byte)));
  }

  /** The classes of plain bytes of which any number may follow. */
  closedClasses(from: Place): number {
    for (let classes = this.at(from.state, from.frame).ways.allowed; ;) {
      let allowed = classes;
      const isKnown = this.#reached(from, ({ ways }) => {
        allowed &= ways.allowed;
        return ways.targets.flatMap((target) => (target.classes & classes ? [target.place] : []));
      });
      if (!isKnown || allowed === 0) return 0;
      if (allowed === classes) return classes;
      classes = allowed;
    }
  }

  /** Whether any number of characters of any kind may follow. */
  isClosed(from: Place): boolean {
    // Most places that are not closed are found by their plain bytes, which take less time.
    if (this.at(from.state, from.frame).closed !== ALL_PLAIN) return false;
    return this.#reached(from, ({ ways }, place) => {
      const wide = ways.allowed === ALL_PLAIN ? this.afterWide(place) : null;
      return wide && [...wide, ...ways.targets.map((target) => target.place)];
    });
  }

  /**
   * Looks at all places that are reached from one.
   * @param placesAfter null ends the search
   * @returns false if the search was ended, or there are too many places
   */
  #reached(from: Place, placesAfter: (run: Run, place: Place) => readonly Place[] | null): boolean {
    const seen = new Map([[keyOf(from), from]]);
    for (const place of seen.values()) {
      if (seen.size > CLOSED_PLACES_MAX) return false;
      const places = placesAfter(this.at(place.state, place.frame), place);
      if (places === null) return false;
      for (const next of places) {
        const key = keyOf(next);
        if (!seen.has(key)) seen.set(key, next);
      }
    }
    return true;
  }

  /** The places to which the bytes lead from some places, and whether each byte leads from each to one. */
  #after(from: readonly Place[], bytes: readonly number[]) {
    const places: Place[] = [];
    let isWhole = true;
    for (const { state, frame } of from) {
      for (const byte of bytes) {
        if (this.#walker.step(state, frame, byte)) {
          const place = { state: this.#walker.nextState, frame: this.#walker.nextFrame };
          if (!places.some((known) => isSame(known, place))) places.push(place);
        } else isWhole = false;
        if (!isWhole && places.length > 0) return { places, isWhole };
      }
    }
    return { places, isWhole };
  }
}
