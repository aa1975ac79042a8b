/** An EngineClient without models. Each running generation has a token every FREE_TOKEN_MS milliseconds, whose text is the time. */
import type { Generation } from "../../../shared/jobs/record.ts";
import type { ModelCard } from "../../../shared/workers/model-card.ts";
import type { EngineClient as RealEngineClient } from "../../../worker/engine-client/client.ts";
import { NO_USAGE, type RunEvent } from "../../../worker/engine-client/messages.ts";

const TOKEN_MS = Number(process.env["FREE_TOKEN_MS"] ?? 1_000);
/** The generations are stepped in so many groups, one after the other, as those of many workers would be. */
const GROUPS = 50;
const PROMPT_TOKENS = 8;

const CARD: ModelCard = {
  id: "free",
  description: "Costs nothing",
  createdAtMs: 0,
  contextTokens: 65_536,
  vocabSize: 256,
  tokenBytesMax: null,
  alphaDefault: 1,
  alphaMax: 2,
  base: "free",
  fingerprint: "free",
  reproducible: true,
};

type EngineInterface = Pick<
  RealEngineClient,
  "cards" | "warnings" | "bases" | "onBases" | "watchProgress" | "run" | "tokenize" | "close"
>;

export class EngineClient implements EngineInterface {
  readonly cards = [CARD];
  readonly warnings = [];
  readonly bases = [];
  onBases = () => {};
  readonly #groups = Array.from({ length: GROUPS }, () => new Set<() => void>());
  #group = 0;

  static start(): Promise<EngineClient> {
    return Promise.resolve(new EngineClient());
  }

  private constructor() {
    let turn = 0;
    setInterval(() => {
      for (const step of this.#groups[turn++ % GROUPS]!) step();
    }, TOKEN_MS / GROUPS);
  }

  async *run(
    _: string,
    { maxTokens }: Generation,
    resume: readonly number[],
    signal: AbortSignal,
  ): AsyncGenerator<RunEvent, void, undefined> {
    const group = this.#groups[this.#group++ % GROUPS]!;
    let turn = Promise.withResolvers<void>();
    const step = () => turn.resolve();
    group.add(step);
    signal.addEventListener("abort", step);
    try {
      yield { type: "prefill", promptTokens: PROMPT_TOKENS };
      for (let n = resume.length; n < maxTokens; n++) {
        await turn.promise;
        turn = Promise.withResolvers();
        if (signal.aborted) return yield { type: "end", finish: null, usage: NO_USAGE };
        yield { type: "token", token: 1, text: `${Date.now()} `, baseCalls: n + 1 - resume.length };
      }
      yield {
        type: "end",
        finish: "length",
        usage: { ...NO_USAGE, promptTokens: PROMPT_TOKENS, baseCalls: maxTokens - resume.length },
      };
    } finally {
      group.delete(step);
      signal.removeEventListener("abort", step);
    }
  }

  watchProgress(): void {}

  tokenize(): Promise<never> {
    return Promise.reject(new Error("There is no tokenizer"));
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
