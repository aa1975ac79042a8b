/**
 * A compiled grammar: a deterministic automaton over bytes, with a stack for nested and counted parts. The text so far leads
 * to exactly one state and one stack, so the next byte costs a table lookup, whatever the grammar. Plain typed arrays: it can
 * be sent to another thread.
 */
export interface CompiledGrammar {
  /** 1 for each state in which its part of the grammar may end. State 0 is the start. */
  readonly accepting: Uint8Array;
  /** Edges of state s: from edgeStarts[s] to edgeStarts[s + 1]. An edge reads one byte from edgeMin to edgeMax. */
  readonly edgeStarts: Uint32Array;
  readonly edgeMin: Uint8Array;
  readonly edgeMax: Uint8Array;
  /** The next state, or -1 - e for entry e: the state `entryTo[e]` inside the calls of the entry. */
  readonly edgeTo: Int32Array;
  /** The state whose edges count for all bytes without an edge here; -1 for none. An edge to NOWHERE allows no text. */
  readonly fallback: Int32Array;
  readonly entryTo: Int32Array;
  /** Calls that entry e pushes onto the stack, outermost first: entryCalls from entryStarts[e] to entryStarts[e + 1]. */
  readonly entryStarts: Uint32Array;
  readonly entryCalls: Uint32Array;
  /** A call reads a part of the grammar callMin to callMax times (0: no limit), and then continues in state callReturn. */
  readonly callMin: Uint32Array;
  readonly callMax: Uint32Array;
  readonly callReturn: Uint32Array;
  /** The first state of the part. */
  readonly callFirst: Uint32Array;
}

/** The target of an edge whose byte is not allowed, although the fallback of its state has an edge for it. */
export const NOWHERE = -0x80000000;
