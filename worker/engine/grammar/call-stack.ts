/** The stack of calls at a position. Frames are immutable and shared by all positions that were reached through them. */
import type { CompiledGrammar } from "../../../shared/grammar/automaton/compiled.ts";

export interface Frame {
  readonly call: number;
  /** Repetitions of the called part that have ended. */
  readonly done: number;
  readonly below: Frame | null;
  /** When the present repetition ends, another one may follow, or the text after the call. */
  readonly mayRepeat: boolean;
  readonly mayReturn: boolean;
  /** When the present repetition ends, the text may end, or go on. */
  readonly canEnd: boolean;
  readonly canContinue: boolean;
  /**
   * Frames of the same kind allow the same tokens. Their counts differ only where no token reaches the limit: a string of at
   * most 1,000 characters has the same masks at all places far from its end.
   */
  readonly kind: number;
  /** Frames that were entered or repeated from here, so that each is created once. */
  next: Frame | null;
  readonly inner: Map<number, Frame>;
}

/** Most frames and kinds that are remembered: about 10 MB. */
const FRAMES_MAX = 2 ** 16;

export class CallStack {
  readonly #grammar: CompiledGrammar;
  /** No token has more bytes, so none ends more repetitions. */
  readonly #tokenBytesMax: number;
  #outermost = new Map<number, Frame>();
  readonly #kinds = new Map<string, number>();
  #lastKind = 0;
  #frames = 0;

  constructor(grammar: CompiledGrammar, tokenBytesMax: number) {
    this.#grammar = grammar;
    this.#tokenBytesMax = tokenBytesMax;
  }

  /** The frame of a call that begins inside `below`. */
  entered(below: Frame | null, call: number): Frame {
    const siblings = below?.inner ?? this.#outermost;
    const known = siblings.get(call);
    if (known) return known;
    const frame = this.#create(call, 0, below);
    siblings.set(call, frame);
    return frame;
  }

  /** The frame of the next repetition. */
  repeated(frame: Frame): Frame {
    return (frame.next ??= this.#create(frame.call, frame.done + 1, frame.below));
  }

  #create(call: number, done: number, below: Frame | null): Frame {
    const { accepting, callMin, callMax, callReturn, edgeStarts } = this.#grammar;
    const [min, max, to] = [callMin[call]!, callMax[call]!, callReturn[call]!];
    const mayRepeat = max === 0 || done + 1 < max;
    const mayReturn = done + 1 >= min;
    const endsAtReturn = accepting[to] === 1;
    const hasEdges = edgeStarts[to + 1]! > edgeStarts[to]!;
    // Unfinished outputs keep references to the frames that they need.
    if (++this.#frames > FRAMES_MAX) {
      this.#frames = 0;
      this.#outermost = new Map();
      this.#kinds.clear();
    }
    return {
      call,
      done,
      below,
      mayRepeat,
      mayReturn,
      canEnd: mayReturn && endsAtReturn && (below === null || below.canEnd),
      canContinue:
        mayRepeat ||
        (mayReturn && (hasEdges || (endsAtReturn && below !== null && below.canContinue))),
      kind: this.#kindOf(call, min - done, max === 0 ? Infinity : max - done, below),
      next: null,
      inner: new Map(),
    };
  }

  #kindOf(call: number, minLeft: number, maxLeft: number, below: Frame | null): number {
    const clamp = (count: number) => Math.min(Math.max(count, 0), this.#tokenBytesMax + 2);
    const key = `${call} ${clamp(minLeft)} ${clamp(maxLeft)} ${below?.kind ?? 0}`;
    const known = this.#kinds.get(key);
    if (known !== undefined) return known;
    this.#kinds.set(key, ++this.#lastKind);
    return this.#lastKind;
  }
}
