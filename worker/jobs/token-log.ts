/**
 * Writes the tokens of one run to the job's event log. An append has the tokens that a step of the engine has given (several where
 * drafts were accepted). While it waits for Redis's answer, new tokens are collected for the next append. So the log has one event per
 * step if Redis is fast, and fewer, larger events if it is slow. The decode loop never waits for Redis.
 */
import type { AppendResult, Progress } from "../../shared/jobs/store.ts";
import {
  candidateEntries,
  collectTokenDetails,
  TRACE_ENTRIES_PER_TOKEN,
  type TokenDetail,
} from "../../shared/api/token-details.ts";

interface LoggedToken {
  readonly token: number;
  readonly text: string;
  readonly detail: TokenDetail;
  readonly baseCalls: number;
}

/** Tokens with a number that one entry of the log holds at most, unless a single token has more: about 100 kB. */
const ENTRY_DETAILS_MAX = 2_048;

/** Collects and appends the tokens of one run. */
export class TokenLog {
  readonly #append: (at: number, tokens: Progress, baseCalls: number) => Promise<AppendResult>;
  readonly #onStop: (reason: "cancel" | "fenced") => void;
  readonly #pending: LoggedToken[] = [];
  #writing: Promise<void> | null = null;
  #failure: Error | null = null;
  /** True after an append was refused or failed: a later append would leave a gap in the log. */
  #closed = false;
  #written: string;
  #writtenCount: number;
  #promptCount: number;
  /** Runs of the base that were logged. */
  #baseCalls = 0;

  /**
   * @param resume the tokens that the log holds already
   * @param append appends tokens to the log; `at` is the number of tokens before them, `baseCalls` the runs of the base since
   *   those
   * @param onStop called when the run must stop. "cancel": a client cancelled the job; the append was written.
   *   "fenced": the job has ended or another worker has claimed it, or Redis failed; the append was not written.
   */
  constructor(
    resume: Progress,
    append: (at: number, tokens: Progress, baseCalls: number) => Promise<AppendResult>,
    onStop: (reason: "cancel" | "fenced") => void,
  ) {
    this.#written = resume.text;
    this.#promptCount = resume.prompt_logprobs?.length ?? 0;
    this.#writtenCount = this.#promptCount + resume.ids.length;
    this.#append = append;
    this.#onStop = onStop;
  }

  /** Text of all tokens in the log, including those of earlier attempts. */
  get text(): string {
    return this.#written;
  }

  /** Number of tokens in the log that were generated, including those of earlier attempts. */
  get outputCount(): number {
    return this.#writtenCount - this.#promptCount;
  }

  /**
   * Adds a generated token and the text that it completed, or the details of a token of the prompt; returns at once. Does nothing
   * after a refused append.
   * @param baseCalls runs of the base in this run until this token
   */
  push(token: number, text: string, detail: TokenDetail = {}, baseCalls = 0): void {
    if (this.#closed) return;
    this.#pending.push({ token, text, baseCalls, detail });
    this.#writing ??= this.#write();
  }

  /** Waits until all added tokens are in the log. @throws Error if an append failed */
  async flush(): Promise<void> {
    await this.#writing;
    if (this.#failure) throw this.#failure;
  }

  /** The tokens of the next entry. Those of the prompt and of the output have separate ones. */
  #takePending(): LoggedToken[] {
    const isPrompt = this.#pending[0]?.detail.prompt !== undefined;
    let details = 0;
    const rest = this.#pending.findIndex(({ detail }, i) => {
      details += detailCount(detail);
      const isOther = (detail.prompt !== undefined) !== isPrompt;
      return isOther || (i > 0 && details > ENTRY_DETAILS_MAX);
    });
    return this.#pending.splice(0, rest === -1 ? this.#pending.length : rest);
  }

  async #write(): Promise<void> {
    // The events of a step arrive in one message, which is handled before this tick.
    await new Promise<void>((resolve) => process.nextTick(resolve));
    try {
      while (this.#pending.length > 0) {
        const pending = this.#takePending();
        const tokens = toProgress(pending);
        const { baseCalls } = pending.at(-1)!;
        const reply = await this.#append(this.#writtenCount, tokens, baseCalls - this.#baseCalls);
        if (reply !== "ok") this.#onStop(reply);
        if (reply === "fenced") {
          this.#closed = true;
          return;
        }
        const promptCount = tokens.prompt_logprobs?.length ?? 0;
        this.#written += tokens.text;
        this.#promptCount += promptCount;
        this.#baseCalls = baseCalls;
        this.#writtenCount += promptCount + tokens.ids.length;
      }
    } catch (error) {
      this.#closed = true;
      this.#failure = error instanceof Error ? error : new Error(String(error));
      this.#onStop("fenced");
    } finally {
      this.#writing = null;
    }
  }
}

function toProgress(tokens: readonly LoggedToken[]): Progress {
  const output = tokens.filter(({ detail }) => detail.prompt === undefined);
  return {
    ids: output.map(({ token }) => token),
    text: output.map(({ text }) => text).join(""),
    ...collectTokenDetails(tokens.map(({ detail }) => detail)),
  };
}

/** Tokens with a number in the details of one token. */
function detailCount({ prompt, logprobs, trace, candidates }: TokenDetail): number {
  const tops = [prompt, logprobs].map((part) => (part ? 1 + part.top.length : 0));
  const others =
    (trace ? TRACE_ENTRIES_PER_TOKEN : 0) + candidateEntries(candidates?.logprobs.length);
  return tops.reduce((sum, count) => sum + count, others);
}
