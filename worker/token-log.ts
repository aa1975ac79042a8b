/**
 * Writes a run's tokens to its job's event log. While one append is on its way to Redis, what is generated meanwhile
 * gathers for the next: one event per token when Redis is quick, fewer and larger ones when it is slow, and
 * never a wait in the decode loop.
 */
import type { Append, Progress } from "../shared/job-store.ts";
import { gatherReports, type TokenReport } from "../shared/reports.ts";

export class TokenLog {
  readonly #append: (at: number, tokens: Progress) => Promise<Append>;
  readonly #onRefused: (reason: "cancel" | "fenced") => void;
  #ids: number[] = [];
  #text = "";
  #reports: TokenReport[] = [];
  #writing: Promise<void> | null = null;
  #failure: Error | null = null;
  /** Whether an append was refused or failed: a later one would leave a gap. */
  #closed = false;
  #written: string;
  #writtenCount: number;

  /**
   * @param resume what the log holds already
   * @param append logs tokens; `at` counts those before them
   * @param onRefused told when a cancel was asked for (the append counts) or the job was lost (it does not)
   */
  constructor(
    resume: Progress,
    append: (at: number, tokens: Progress) => Promise<Append>,
    onRefused: (reason: "cancel" | "fenced") => void,
  ) {
    this.#written = resume.text;
    this.#writtenCount = resume.ids.length;
    this.#append = append;
    this.#onRefused = onRefused;
  }

  /** All text in the log. */
  get text(): string {
    return this.#written;
  }

  /** Count of tokens in the log. */
  get tokenCount(): number {
    return this.#writtenCount;
  }

  push(token: number, text: string, report: TokenReport = {}): void {
    if (this.#closed) return;
    this.#ids.push(token);
    this.#text += text;
    this.#reports.push(report);
    this.#writing ??= this.#write();
  }

  /** Waits until everything pushed is in the log; throws if an append failed. */
  async drained(): Promise<void> {
    await this.#writing;
    if (this.#failure) throw this.#failure;
  }

  async #write(): Promise<void> {
    try {
      while (this.#ids.length > 0) {
        const tokens = { ids: this.#ids, text: this.#text, ...gatherReports(this.#reports) };
        this.#ids = [];
        this.#text = "";
        this.#reports = [];
        const reply = await this.#append(this.#writtenCount, tokens);
        if (reply !== "ok") this.#onRefused(reply);
        if (reply === "fenced") {
          this.#closed = true;
          return;
        }
        this.#written += tokens.text;
        this.#writtenCount += tokens.ids.length;
      }
    } catch (error) {
      this.#closed = true;
      this.#failure = error instanceof Error ? error : new Error(String(error));
      this.#onRefused("fenced");
    } finally {
      this.#writing = null;
    }
  }
}
