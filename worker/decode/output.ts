/**
 * What one sequence has generated: its text as it becomes final, and whether it is finished.
 * A pure function of the tokens, so replaying a log gives exactly the text that was streamed.
 */
import { Detokenizer } from "./detokenizer.ts";
import { StopStrings } from "./stop-strings.ts";

export interface OutputOptions {
  readonly decode: (ids: number[]) => string;
  readonly stop: readonly string[];
  readonly eosIds: ReadonlySet<number>;
  /** Tokens after which the output is finished. */
  readonly maxTokens: number;
  /** Whether what was accepted is all that may come. */
  readonly isComplete?: () => boolean;
}

/** An end token, a stop string or all that may come; or the token limit. */
export type Finish = "stop" | "length";

export interface Accepted {
  /** Text that this token made final; "" while it is held back. */
  readonly text: string;
  readonly finish: Finish | null;
}

export class Output {
  readonly #options: OutputOptions;
  readonly #detokenizer: Detokenizer;
  readonly #stops: StopStrings;
  #count = 0;
  #finish: Finish | null = null;

  constructor(options: OutputOptions) {
    this.#options = options;
    this.#detokenizer = new Detokenizer(options.decode);
    this.#stops = new StopStrings(options.stop);
  }

  /** How the output ended, or null while it goes on. */
  get finish(): Finish | null {
    return this.#finish;
  }

  /** Tokens that may still come before the limit ends the output. */
  get tokensLeft(): number {
    return this.#options.maxTokens - this.#count;
  }

  accept(token: number): Accepted {
    const accepted = this.#read(token);
    this.#finish = accepted.finish;
    return accepted;
  }

  #read(token: number): Accepted {
    this.#count++;
    if (this.#options.eosIds.has(token)) {
      const { text, stopped } = this.#stops.push(this.#detokenizer.flush());
      return { text: stopped ? text : text + this.#stops.flush(), finish: "stop" };
    }
    const { text, stopped } = this.#stops.push(this.#detokenizer.push(token));
    if (stopped) return { text, finish: "stop" };
    const complete = this.#options.isComplete?.() ?? false;
    if (!complete && this.#count < this.#options.maxTokens) return { text, finish: null };
    const rest = this.#stops.push(this.#detokenizer.flush());
    const tail = rest.stopped ? "" : this.#stops.flush();
    return { text: text + rest.text + tail, finish: rest.stopped || complete ? "stop" : "length" };
  }
}
