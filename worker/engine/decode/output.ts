/**
 * Turns the tokens of one sequence into text and decides when the output is finished. It depends only on the tokens, so
 * replaying an event log gives exactly the text that was streamed.
 */
import { Detokenizer } from "./detokenizer.ts";
import { StopStrings } from "./stop-strings.ts";

export interface OutputOptions {
  /** Text of token ids; an incomplete character at the end becomes one U+FFFD. */
  readonly decode: (ids: number[]) => string;
  /** Tokens without text; absent for none. */
  readonly silentIds?: ReadonlySet<number>;
  readonly stop: readonly string[];
  readonly eosIds: ReadonlySet<number>;
  /** Token limit of the output; with 0 it is finished at once. */
  readonly maxTokens: number;
  /** Whether the output matches its grammar and cannot continue; absent without a grammar. */
  readonly isComplete?: () => boolean;
}

/** "stop": an end token, a stop string or the end of the grammar. "length": the token limit. */
export type Finish = "stop" | "length";

export interface OutputStep {
  /** Text that this token makes final; "" while it is held back. */
  readonly text: string;
  /** Null while the output continues. */
  readonly finish: Finish | null;
}

export class Output {
  readonly #options: OutputOptions;
  readonly #detokenizer: Detokenizer;
  readonly #stops: StopStrings;
  #tokenCount = 0;
  #finish: Finish | null = null;

  constructor(options: OutputOptions) {
    this.#options = options;
    this.#detokenizer = new Detokenizer(options.decode);
    this.#stops = new StopStrings(options.stop);
    if (options.maxTokens === 0) this.#finish = "length";
  }

  /** How the output ended; null while it continues. */
  get finish(): Finish | null {
    return this.#finish;
  }

  /** The stop string that ended the output; null if none did. */
  get stopString(): string | null {
    return this.#stops.found;
  }

  /** Tokens left before the limit ends the output. */
  get tokensLeft(): number {
    return this.#options.maxTokens - this.#tokenCount;
  }

  /** Whether a token ends the output. */
  endsWith(token: number): boolean {
    return this.#options.eosIds.has(token);
  }

  /** Adds the next token. */
  push(token: number): OutputStep {
    const step = this.#nextStep(token);
    this.#finish = step.finish;
    return step;
  }

  #nextStep(token: number): OutputStep {
    this.#tokenCount++;
    if (this.#options.eosIds.has(token)) {
      const { text, stopped } = this.#stops.push(this.#detokenizer.flush());
      return { text: stopped ? text : text + this.#stops.flush(), finish: "stop" };
    }
    // The detokenizer keeps tokens until they have some text, so tokens without text would cost more and more.
    const isSilent = this.#options.silentIds?.has(token) ?? false;
    const { text, stopped } = this.#stops.push(isSilent ? "" : this.#detokenizer.push(token));
    if (stopped) return { text, finish: "stop" };
    const isComplete = this.#options.isComplete?.() ?? false;
    if (!isComplete && this.#tokenCount < this.#options.maxTokens) return { text, finish: null };
    const rest = this.#stops.push(this.#detokenizer.flush());
    const tail = rest.stopped ? "" : this.#stops.flush();
    return {
      text: text + rest.text + tail,
      finish: rest.stopped || isComplete ? "stop" : "length",
    };
  }
}
