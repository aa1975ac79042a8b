/** Where a job stands in the queue and when it will start, as far as that can be known. */
import * as v from "valibot";
import { etaOf, Pace, type Eta } from "./eta.ts";
import { FairQueue, type Ahead } from "./fair-queue.ts";
import type { NewJob } from "./job.ts";
import type { KeyLimits } from "./policy.ts";
import type { RedisClient } from "./redis-client.ts";
import { PACES_KEY } from "./redis-keys.ts";

/** An estimate: what comes later may go before it, and what waits may be cancelled. */
export interface QueuePlace {
  /** 1 is the next to start. */
  readonly position: number;
  /** That the jobs before it may come to at most, prompts included. */
  readonly tokens_ahead: number;
  /** Seconds until it starts; null where no worker has told how fast it is. */
  readonly eta: Eta | null;
}

/** `POST /v1/jobs/quote`: what a job would meet that came now. */
export interface Quote {
  readonly object: "quote";
  readonly model: string;
  /** Only workers have the tokenizer: of a text, an estimate at four characters a token. */
  readonly prompt_tokens: number;
  readonly prompt_tokens_exact: boolean;
  readonly max_tokens: number;
  readonly queue: QueuePlace;
  /** Of the API key. */
  readonly limits: KeyLimits;
}

export class Outlook {
  readonly #redis: RedisClient;
  readonly #queue: FairQueue;

  constructor(redis: RedisClient) {
    this.#redis = redis;
    this.#queue = new FairQueue(redis);
  }

  /** Null for a job that does not wait. */
  async ofJob(job: Pick<NewJob, "id" | "tenant" | "asked">): Promise<QueuePlace | null> {
    const ahead = await this.#queue.aheadOf(job);
    return ahead && (await this.#placeOf(ahead)).place;
  }

  /** Of a job that came now; `earliest` are the seconds before which it starts in one case of ten. */
  async ofNew(
    tenant: string,
    priority: number,
  ): Promise<{ place: QueuePlace; earliest: number | null }> {
    return this.#placeOf(await this.#queue.aheadOfNew(tenant, priority));
  }

  async #placeOf(ahead: Ahead): Promise<{ place: QueuePlace; earliest: number | null }> {
    const told = Object.values(await this.#redis.hgetall(PACES_KEY));
    const paces = told.map((json) => v.parse(Pace, JSON.parse(json)));
    const eta = etaOf(ahead, paces, Date.now());
    return {
      place: {
        position: ahead.jobs + 1,
        tokens_ahead: ahead.tokens,
        eta: eta && { p50: eta.p50, p90: eta.p90 },
      },
      earliest: eta && eta.p10,
    };
  }
}
