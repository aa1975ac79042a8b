/** One client of the API as it should be: it submits until it is told an id, and reads on where a stream broke off. */
import { setTimeout as delay } from "node:timers/promises";
import { isEnd, type Job, type JobEvent } from "../../shared/contract.ts";
import type { JobClient } from "../../infra/job-client.ts";
import type { Dice } from "./dice.ts";
import type { Plan } from "./workload.ts";

/** Between two tries. */
const PAUSE_MS = [50, 400] as const;
/** A connection is given up after so long, whether or not anything comes. */
const CONNECTION_MS = [300, 8_000] as const;
const REQUEST_MS = 8_000;

/** What one client saw. */
export interface Seen {
  readonly plan: Plan;
  readonly id: string;
  /** In the order in which they came, over all connections. */
  readonly events: readonly JobEvent[];
  readonly connections: number;
  /** Longest time without an event. */
  readonly pauseMs: number;
  readonly hasCancelled: boolean;
}

export class ChaosClient {
  readonly #api: JobClient;
  readonly #dice: Dice;
  readonly #key: string;

  /** @param key makes its submission one, however often it is sent */
  constructor(api: JobClient, dice: Dice, key: string) {
    this.#api = api;
    this.#dice = dice;
    this.#key = key;
  }

  /** @returns null if the client gave up before it knew that its job was accepted */
  async run(plan: Plan, signal: AbortSignal): Promise<Seen | null> {
    const id = await this.#submit(plan, signal);
    if (id === null) return null;
    const events: JobEvent[] = [];
    let [connections, pauseMs, lastMs] = [0, 0, Date.now()];
    let hasCancelled = false;
    while (!events.some(isEnd)) {
      connections++;
      const cut = AbortSignal.timeout(this.#dice.whole(...CONNECTION_MS));
      try {
        const after = events.at(-1)?.seq ?? 0;
        for await (const event of this.#api.events(id, {
          after,
          signal: AbortSignal.any([cut, signal]),
        })) {
          pauseMs = Math.max(pauseMs, Date.now() - lastMs);
          lastMs = Date.now();
          events.push(event);
          if (hasCancelled || plan.cancelAfter === null || tokens(events) < plan.cancelAfter)
            continue;
          hasCancelled = true;
          void this.#cancel(id, signal);
        }
      } catch {
        // Cut off, by us or by a fault.
      }
      signal.throwIfAborted();
      if (!events.some(isEnd)) await this.#pause();
    }
    return { plan, id, events, connections, pauseMs, hasCancelled };
  }

  async #submit({ input, insists }: Plan, signal: AbortSignal): Promise<string | null> {
    const headers = { "idempotency-key": this.#key };
    const body = JSON.stringify(input);
    for (;;) {
      const job = await this.#job("/v1/jobs", { method: "POST", headers, body }, signal);
      if (job !== null) return job.id;
      if (!insists) return null;
      await this.#pause();
    }
  }

  async #cancel(id: string, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      if ((await this.#job(`/v1/jobs/${id}/cancel`, { method: "POST" }, signal)) !== null) return;
      await this.#pause();
    }
  }

  /** Null where no answer came, or one that says to try again. */
  async #job(path: string, init: RequestInit, signal: AbortSignal): Promise<Job | null> {
    const late = AbortSignal.any([AbortSignal.timeout(REQUEST_MS), signal]);
    let reply: Response;
    let text: string;
    try {
      reply = await this.#api.request(path, { ...init, signal: late });
      text = await reply.text();
    } catch {
      signal.throwIfAborted();
      return null;
    }
    if (reply.ok) return JSON.parse(text) as Job;
    if (reply.status === 503 || reply.status === 409) return null;
    throw new Error(`${path} answered ${reply.status}: ${text}`);
  }

  #pause(): Promise<void> {
    return delay(this.#dice.between(...PAUSE_MS));
  }
}

function tokens(events: readonly JobEvent[]): number {
  return events.reduce((sum, event) => sum + (event.type === "tokens" ? event.ids.length : 0), 0);
}
