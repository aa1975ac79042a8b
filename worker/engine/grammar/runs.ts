/**
 * Runs. A run is a place from which all plain bytes lead to the same next place, as inside a string. Tokens of such bytes are
 * allowed together, without a look at each byte.
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

/** More than the kinds of a stack, which forgets them in time. */
const KINDS_MAX = 2 ** 24;
/** Runs that are kept. */
const RUNS_MAX = 2 ** 16;

const range = (min: number, max: number) =>
  Array.from({ length: max - min + 1 }, (_, i) => min + i);
const REST = range(0x80, 0xbf);
/** The characters of more than one byte in UTF-8: the ranges of their bytes. */
const WIDE: readonly (readonly number[])[][] = [
  [range(0xc2, 0xdf), REST],
  [[0xe0], range(0xa0, 0xbf), REST],
  [range(0xe1, 0xec), REST, REST],
  [[0xed], range(0x80, 0x9f), REST],
  [range(0xee, 0xef), REST, REST],
  [[0xf0], range(0x90, 0xbf), REST, REST],
  [range(0xf1, 0xf3), REST, REST, REST],
  [[0xf4], range(0x80, 0x8f), REST, REST],
];

/** Whether two places have the same masks. */
const isSame = (a: Place, b: Place) =>
  a.state === b.state && (a.frame?.kind ?? 0) === (b.frame?.kind ?? 0);

/** Bytes that need no look one by one: which of them lead from a place to one and the same other place, and so on from there. */
export interface Run {
  /** The classes (byte-classes.ts) of plain bytes all of which lead to that place; 0 if there is none. */
  readonly classes: number;
  /** The run of that place, which may be this one. */
  readonly next: Run;
  /** The run of the place to which each character of more than one byte leads; null if there is none. */
  readonly wide: Run | null;
}

/** From a place where no class of bytes leads to one place. */
const NO_RUN: Run = {
  classes: 0,
  get next() {
    return NO_RUN;
  },
  wide: null,
};

/** Whether a run goes on for this many plain bytes of these classes, in any order. */
export function allowsPlain(start: Run, classes: number, count: number): boolean {
  for (let run = start, left = count; left > 0; left--, run = run.next) {
    if ((classes & ~run.classes) !== 0) return false;
    if (run.next === run) return true;
  }
  return true;
}

/** Whether a run goes on for this many characters of any kind. */
export function allowsText(start: Run, count: number): boolean {
  for (let run = start, left = count; left > 0; left--, run = run.next) {
    if (run.classes !== ALL_PLAIN || run.wide !== run.next) return false;
    if (run.next === run) return true;
  }
  return true;
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
    const key = state * KINDS_MAX + (frame?.kind ?? 0);
    const known = this.#runs.get(key);
    if (known) return known;
    if (this.#runs.size > RUNS_MAX) this.#runs.clear();
    const run = this.#createRun({ state, frame });
    this.#runs.set(key, run);
    return run;
  }

  #createRun(from: Place): Run {
    /** The classes that lead to each place. */
    const targets: { readonly place: Place; classes: number; bytes: number }[] = [];
    for (const { bit, bytes } of PLAIN_CLASSES) {
      const place = this.#afterAll(from.state, from.frame, bytes);
      if (!place) continue;
      const known = targets.find((target) => isSame(target.place, place));
      const target = known ?? { place, classes: 0, bytes: 0 };
      if (!known) targets.push(target);
      target.classes |= bit;
      target.bytes += bytes.length;
    }
    if (targets.length === 0) return NO_RUN;
    const { place, classes } = targets.reduce((a, b) => (b.bytes > a.bytes ? b : a));
    let next: Run | undefined;
    let wide: Run | null | undefined;
    const runAt = (at: Place) => this.at(at.state, at.frame);
    const runAfterWide = () => {
      const after = this.#afterWide(from);
      return after && runAt(after);
    };
    // Computed when they are needed: they lead to others.
    return {
      classes,
      get next() {
        return (next ??= runAt(place));
      },
      get wide() {
        if (wide === undefined) wide = runAfterWide();
        return wide;
      },
    };
  }

  /** The place to which each of the bytes leads; null if they lead to several, or one leads nowhere. */
  #afterAll(state: number, frame: Frame | null, bytes: readonly number[]): Place | null {
    let place: Place | null = null;
    for (const byte of bytes) {
      if (!this.#walker.step(state, frame, byte)) return null;
      const { nextState, nextFrame } = this.#walker;
      if (place === null) place = { state: nextState, frame: nextFrame };
      else if (place.state !== nextState || place.frame?.kind !== nextFrame?.kind) return null;
    }
    return place;
  }

  /** The place to which each character of more than one byte leads; null if they lead to several, or one leads nowhere. */
  #afterWide({ state, frame }: Place): Place | null {
    let result: Place | null = null;
    for (const bytes of WIDE) {
      let place: Place | null = { state, frame };
      for (const range of bytes) place = place && this.#afterAll(place.state, place.frame, range);
      if (!place || (result && !isSame(place, result))) return null;
      result = place;
    }
    return result;
  }
}
