/** The two columns: what runs in them, again with another alpha, and on from another token. */
import type { Job } from "../../../shared/api/jobs.ts";
import { alphaAt } from "../../../shared/jobs/alpha-schedule.ts";
import type { Api, JobBody } from "./api.ts";
import { followToEnd, runJob, type RunListener } from "./answer-run.ts";
import { Column, type ColumnListener } from "./column.ts";
import { byId, part } from "./dom.ts";
import { Figure, type Candidate } from "./figure.ts";
import { costText } from "./job-state.ts";
import {
  continuedBody,
  jobBody,
  messagesOf,
  steeringOf,
  withAlpha,
  type Settings,
} from "./settings.ts";
import { interventionOf, nameOf, type Token } from "./tokens.ts";

/** Published measurements found that pairs which change more tokens than this share often fail on hard tasks (arXiv 2606.11201). */
const INTERVENTION_USUAL = 0.2;

export class Comparison {
  readonly #api: () => Api;
  readonly #columns: Readonly<Record<Column["name"], Column>>;
  readonly #figure: Figure;
  /** The settings that made the answers. */
  readonly #shown = new Map<Column, Settings>();
  readonly #running = new Map<Column, AbortController>();

  /**
   * @param api the client with the present key
   * @param openRecord shows the record of a job
   */
  constructor(api: () => Api, openRecord: (jobId: string) => void) {
    this.#api = api;
    this.#figure = new Figure({
      score: (column, position, candidates, signal) =>
        this.#score(column, position, candidates, signal),
      alphaAt: (column, position) => this.#alphaAt(column, position),
      branch: (column, position, candidate) => void this.#branch(column, position, candidate),
    });
    const listener: ColumnListener = {
      onPoint: (column, position) => this.#figure.point(column, position),
      onChoose: (column, position) => this.#figure.pin(column, position),
      onLeave: () => this.#figure.leave(),
      onRecord: openRecord,
    };
    this.#columns = {
      base: new Column("base", listener),
      steered: new Column("steered", listener),
    };
    byId("stop", HTMLButtonElement).addEventListener("click", () => this.stop());
  }

  /** Whether an answer has been asked for: then a moved alpha runs it again. */
  get hasAnswer(): boolean {
    return this.#shown.size > 0;
  }

  async runBoth(settings: Settings): Promise<void> {
    const { base, steered } = this.#columns;
    await Promise.all([this.#run(base, settings), this.#run(steered, settings)]);
  }

  /** Runs again what depends on the steering; both answers if something else has changed as well. */
  async runSteered(settings: Settings): Promise<void> {
    const { base, steered } = this.#columns;
    const before = this.#shown.get(base);
    if (before === undefined || !haveSameBase(before, settings)) return this.runBoth(settings);
    await this.#run(steered, settings);
  }

  stop(): void {
    for (const running of this.#running.values()) running.abort();
  }

  async #branch(column: Column, position: number, { id, token }: Candidate): Promise<void> {
    const settings = this.#shown.get(column);
    if (settings === undefined) return;
    const kept = column.tokens.slice(0, position);
    const known = column.tokens[position];
    const chosen: Token =
      known?.id === id ? known : { id, text: token, isEnd: false, top: known?.top ?? [] };
    await this.#run(column, settings, [...kept, chosen]);
  }

  /** Shows the answer of a job that was submitted elsewhere. */
  async watch(api: Api, jobId: string): Promise<void> {
    const { steered } = this.#columns;
    this.#shown.delete(steered);
    await this.#show(steered, [], async (listener, signal) => {
      listener.onJob(jobId);
      await followToEnd(api, jobId, listener, signal);
      return () => {
        steered.setState("Complete");
        steered.setSummary(...changeTexts(steered));
      };
    });
  }

  async #run(column: Column, settings: Settings, kept: readonly Token[] = []): Promise<void> {
    this.#shown.set(column, settings);
    await this.#show(column, kept, async (listener, signal) => {
      const body = await this.#bodyOf(column, settings, kept);
      const job = await runJob(this.#api(), body, listener, signal);
      return () => finish(column, job);
    });
  }

  /**
   * Shows an answer in a column as it comes. Only the column's last answer writes in it.
   * @param follow follows the answer to its end, and returns what to do then
   */
  async #show(
    column: Column,
    kept: readonly Token[],
    follow: (listener: RunListener, signal: AbortSignal) => Promise<() => void>,
  ): Promise<void> {
    this.#running.get(column)?.abort();
    const running = new AbortController();
    this.#running.set(column, running);
    this.#showRunning();
    this.#figure.close();
    column.begin(kept);
    column.setState("Sending the request");
    const { signal } = running;
    const ifCurrent = (action: () => void) => {
      if (this.#running.get(column) === running) action();
    };
    try {
      const listener: RunListener = {
        onJob: (id) => ifCurrent(() => column.setJob(id)),
        onState: (text) => ifCurrent(() => column.setState(text)),
        onTokens: (tokens) => ifCurrent(() => column.add(tokens)),
      };
      ifCurrent(await follow(listener, signal));
    } catch (error) {
      const message = error instanceof Error ? error.message : "unknown error";
      ifCurrent(() => column.setState(signal.aborted ? "Stopped" : `Failed: ${message}`));
    }
    ifCurrent(() => {
      column.end();
      this.#running.delete(column);
      this.#showRunning();
    });
  }

  /** After kept tokens the job continues the ids of the prompt and of these tokens. */
  async #bodyOf(column: Column, settings: Settings, kept: readonly Token[]): Promise<JobBody> {
    const own = column.name === "base" ? withAlpha(settings, 0) : settings;
    if (kept.length === 0) return jobBody(own);
    const { model } = settings;
    const prompt = await this.#api().tokenize({ model, messages: messagesOf(settings) });
    return continuedBody(own, [...prompt, ...kept.map(({ id }) => id)], kept.length);
  }

  #alphaAt(column: Column, position: number): number | null {
    const settings = this.#shown.get(column);
    if (settings === undefined) return null;
    if (column.name === "base") return 0;
    return settings.schedule ? alphaAt(settings.schedule, position) : settings.alpha;
  }

  /** Of the base's answer it shows what the steering of the other column would make of it. */
  async #score(
    column: Column,
    position: number,
    candidates: readonly Candidate[],
    signal: AbortSignal,
  ) {
    const settings = this.#shown.get(column);
    if (settings === undefined) throw new Error("this answer was not asked for on this page");
    const before = column.tokens.slice(0, position).map(({ id }) => id);
    const { model } = settings;
    const list = await this.#api().score(
      {
        model,
        messages: messagesOf(settings),
        completions: candidates.map(({ id }) => [...before, id]),
        steering: steeringOf(settings),
      },
      signal,
    );
    return list.data.map(({ tokens }) => tokens.at(-1)!);
  }

  #showRunning(): void {
    const isRunning = this.#running.size > 0;
    byId("stop", HTMLButtonElement).disabled = !isRunning;
    part("legend").hidden = false;
    part("announcement").textContent = isRunning ? "Running" : "Ended";
  }
}

function finish(column: Column, job: Job): void {
  const reason = job.output.finish_reason === "length" ? "at max_tokens" : "at its end";
  const attempts = job.attempts > 1 ? `, in attempt ${job.attempts}` : "";
  column.setState(`Complete: it stopped ${reason}${attempts}`);
  const cost = costText(job);
  if (column.name === "base") column.setSummary(cost);
  else column.setSummary(...changeTexts(column), cost);
}

function changeTexts(column: Column): string[] {
  const { tokens, changed, klMean } = interventionOf(column.tokens);
  const share = tokens === 0 ? 0 : changed / tokens;
  const isMuch =
    share > INTERVENTION_USUAL
      ? " Pairs that change more than about 20% tend to fail on hard tasks."
      : "";
  const rate = `Steering changed ${changed} of ${tokens} tokens: an intervention rate of ${(100 * share).toFixed(0)}%.${isMuch} KL on average ${klMean.toFixed(2)} nats.`;
  const { changedAt } = column;
  if (changedAt === null) return [rate];
  const name = nameOf(column.tokens[changedAt]?.text ?? "");
  return [rate, `First change to the answer before: token ${changedAt + 1}, ${name}.`];
}

/** Whether the base alone gives the same answer under both settings. */
function haveSameBase(before: Settings, now: Settings): boolean {
  const baseBody = (settings: Settings) => JSON.stringify(jobBody(withAlpha(settings, 0)));
  return baseBody(before) === baseBody(now);
}
