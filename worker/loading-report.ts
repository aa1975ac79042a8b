/** Tells in the log and at /readyz how far the loading of models is, also while a large one takes minutes. */
import type { Logger } from "pino";
import type { LoadingProgress } from "./engine-client/loading-progress.ts";

/** Time between log lines while one model loads. */
const REPEAT_MS = 30_000;

export class LoadingReport {
  readonly #log: Pick<Logger, "info">;
  readonly #nowMs: () => number;
  readonly #timer: NodeJS.Timeout;
  #last: { readonly progress: LoadingProgress; readonly sinceMs: number } | null = null;

  constructor(log: Pick<Logger, "info">, nowMs = () => performance.now()) {
    this.#log = log;
    this.#nowMs = nowMs;
    this.#timer = setInterval(() => this.#write(), REPEAT_MS);
  }

  update(progress: LoadingProgress): void {
    const { model, stage } = progress;
    const before = this.#last;
    const isSame = before?.progress.model === model && before.progress.stage === stage;
    this.#last = { progress, sinceMs: isSame ? before.sinceMs : this.#nowMs() };
    this.#write();
  }

  /** Whether files are downloaded, and no model is loaded yet. */
  get isDownloading(): boolean {
    return this.#last?.progress.stage === "pull";
  }

  /** Empty before the first report. */
  text(): string {
    if (this.#last === null) return "";
    const { stage, loaded, of, bytes, bytesOf, model, prepares } = this.#last.progress;
    const [mib, mibOf] = [bytes, bytesOf].map((value) => Math.ceil(value / 2 ** 20));
    const what = stage === "load" ? "Models loaded" : `Files of ${model} downloaded`;
    const counts = `${what}: ${loaded} of ${of} (${mib} of ${mibOf} MiB)`;
    if (stage !== "load" || model === null) return counts;
    const seconds = Math.floor((this.#nowMs() - this.#last.sinceMs) / 1000);
    const doing = prepares ? "is prepared (once) and loads" : "loads";
    return `${counts}. ${model} ${doing} since ${seconds} s`;
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #write(): void {
    if (this.#last === null) return;
    const { model, ...counts } = this.#last.progress;
    this.#log.info({ ...counts, ...(model !== null && { model }) }, this.text());
  }
}
