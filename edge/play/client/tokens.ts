/** The tokens of an answer, as a job's events report them. */
import type { JobEvent } from "../../../shared/api/job-events.ts";
import type { TokenLogprob, TokenShift } from "../../../shared/api/token-details.ts";

export interface Token {
  readonly id: number;
  /** Empty if it is not known, or while a character is incomplete. */
  readonly text: string;
  /** Whether it ends the answer. */
  readonly isEnd: boolean;
  readonly trace?: TokenShift;
  /** The likeliest tokens at its position. */
  readonly top: TokenLogprob["top"];
}

/** Reads tokens from events: a character may consist of the bytes of several tokens. */
export class TokenReader {
  readonly #decoder = new TextDecoder();

  read(event: Extract<JobEvent, { type: "tokens" }>): Token[] {
    return event.ids.map((id, i) => {
      const logprob = event.logprobs?.[i];
      const trace = event.trace?.[i];
      return {
        id,
        text: logprob ? this.#textOf(logprob) : "",
        isEnd: logprob === undefined,
        ...(trace && { trace }),
        top: logprob?.top ?? [],
      };
    });
  }

  #textOf({ token, bytes }: TokenLogprob): string {
    if (bytes === undefined) return token;
    return this.#decoder.decode(new Uint8Array(bytes), { stream: true });
  }
}

/** A token's text as a name: quoted, on one line. */
export function nameOf(text: string): string {
  if (text === "") return "end of the answer";
  return `“${text.replaceAll("\n", "⏎").replaceAll("\t", "⇥").replaceAll(" ", "\u00a0")}”`;
}

/** Gains in nats from which on a token is tinted more strongly. */
const TINT_STEPS = [0.1, 0.7, 1.6, 3];

/** The class of a token by its gain: `gain-1` to `gain-4`, `lose-1` to `lose-4`, or none. */
export function tintOf(gain: number): string {
  const level = TINT_STEPS.filter((step) => Math.abs(gain) >= step).length;
  if (level === 0) return "";
  return `${gain > 0 ? "gain" : "lose"}-${level}`;
}

export interface Intervention {
  readonly tokens: number;
  /** Tokens that the base alone would not have chosen. */
  readonly changed: number;
  readonly klMean: number;
  readonly klMax: number;
  /** Of the tokens' alphas, after the schedule and the guards. */
  readonly alphaMin: number;
  readonly alphaMax: number;
}

export function interventionOf(tokens: readonly Token[]): Intervention {
  const traces = tokens.flatMap(({ trace }) => trace ?? []);
  const kl = traces.map((trace) => trace.kl);
  const alphas = traces.map(({ alpha }) => Number(alpha.toFixed(3)));
  return {
    tokens: traces.length,
    changed: traces.filter(({ same }) => !same).length,
    klMean: kl.reduce((sum, one) => sum + one, 0) / Math.max(1, kl.length),
    klMax: Math.max(0, ...kl),
    alphaMin: alphas.length === 0 ? 0 : Math.min(...alphas),
    alphaMax: alphas.length === 0 ? 0 : Math.max(...alphas),
  };
}
