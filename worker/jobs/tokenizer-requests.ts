/**
 * Answers requests for the tokenizers of this worker's models (shared/workers/tokenizer-requests.ts), and checks prompts of waiting jobs
 * (prompt-check.ts). The prepare thread does the work, in which tenants take turns, so that a request neither takes a slot nor delays a
 * token. A channel tells of new requests; as a message may be lost, the queues of the models are also polled.
 */
import type { Redis } from "ioredis";
import type { Logger } from "pino";
import { isNewerLane, modelsOfLane } from "../../shared/queue/lanes.ts";
import { TOKENIZER_CHANNEL } from "../../shared/redis/keys.ts";
import type { RedisClient } from "../../shared/redis/client.ts";
import { commandsOf, tagOf, withTag } from "../../shared/redis/tags.ts";
import { endPromptCheck, type PromptCheck } from "../../shared/workers/prompt-checks.ts";
import {
  answerTokenizerRequest,
  takeTokenizerRequest,
  type TokenizerRequest,
} from "../../shared/workers/tokenizer-requests.ts";
import type { EngineClient } from "../engine-client/client.ts";
import { duplicateConnection } from "../redis/connection.ts";

/** Interval at which requests are looked for without a message. */
const POLL_MS = 1_000;
/** Requests that this worker has taken and not answered. The others wait where any worker can take them. */
const TAKEN_MAX = 8;

export interface TokenizerRequestsDeps {
  readonly connection: Redis;
  readonly engine: Pick<EngineClient, "cards" | "tokenize">;
  /** Checks the prompt of a job. */
  readonly checkPrompt: (jobId: string) => Promise<void>;
  readonly log: Logger;
}

export class TokenizerRequests {
  readonly #deps: TokenizerRequestsDeps;
  readonly #redis: RedisClient;
  readonly #subscriber: Redis;
  readonly #poll: NodeJS.Timeout;
  /** Models and lanes that may have waiting requests. */
  readonly #waiting = new Set<string>();
  #taken = 0;
  #isTaking = false;
  #isClosed = false;

  constructor(deps: TokenizerRequestsDeps) {
    this.#deps = deps;
    this.#redis = commandsOf(deps.connection);
    this.#subscriber = duplicateConnection(deps.connection, deps.log);
    this.#subscriber.on("message", (_, lane) => {
      if (this.#serves(lane)) this.#look([lane]);
    });
    this.#subscriber.subscribe(withTag(TOKENIZER_CHANNEL, tagOf(deps.connection))).catch(() => {});
    this.#poll = setInterval(() => this.#look(this.#models()), POLL_MS);
  }

  /** Takes no more requests. Those that were taken get no answer if the process ends before. */
  close(): void {
    this.#isClosed = true;
    clearInterval(this.#poll);
    this.#subscriber.disconnect();
  }

  #serves(lane: string): boolean {
    const models = this.#models();
    return !isNewerLane(lane) && modelsOfLane(lane).every((id) => models.includes(id));
  }

  #models(): string[] {
    return this.#deps.engine.cards.map(({ id }) => id);
  }

  #look(lanes: readonly string[]): void {
    for (const lane of lanes) this.#waiting.add(lane);
    if (!this.#isTaking) void this.#take();
  }

  async #take(): Promise<void> {
    this.#isTaking = true;
    try {
      // Lanes take turns.
      for (const lane of this.#waiting) {
        if (this.#isClosed || this.#taken >= TAKEN_MAX) break;
        this.#waiting.delete(lane);
        const request = await takeTokenizerRequest(this.#redis, lane);
        if (request === null) continue;
        this.#waiting.add(lane);
        this.#taken++;
        void this.#answer(request);
      }
    } catch (error) {
      this.#deps.log.warn({ err: error }, "Could not take a request for a tokenizer");
    } finally {
      this.#isTaking = false;
    }
  }

  async #answer(request: TokenizerRequest | PromptCheck): Promise<void> {
    const { engine, log, checkPrompt } = this.#deps;
    try {
      if ("job" in request) {
        await checkPrompt(request.job);
        await endPromptCheck(this.#redis, request);
        return;
      }
      const answer = await engine.tokenize(request);
      await answerTokenizerRequest(this.#redis, request, answer);
    } catch (error) {
      log.warn({ err: error }, "Could not answer a request for a tokenizer");
    } finally {
      this.#taken--;
      if (this.#waiting.size > 0) this.#look([]);
    }
  }
}
