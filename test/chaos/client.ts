/** A robust client of the API: it repeats its submission until it gets an id, and resumes broken streams. */
import { setTimeout as delay } from "node:timers/promises";
import { type Job } from "../../shared/api/jobs.ts";
import { isEnd } from "../../shared/api/job-events.ts";
import type { JobEvent } from "../../shared/api/job-events.ts";
import type { JobClient } from "../../infra/cli/job-client.ts";
import type { SeededRandom } from "./seeded-random.ts";
import type { ClientPlan } from "./workload.ts";

/** Pause between two tries. */
const PAUSE_MS = [50, 400] as const;
/** The client closes each connection after a time in this range, whether or not events arrive. */
const CONNECTION_MS = [300, 8_000] as const;
const REQUEST_MS = 8_000;

/** The job of one client and the events that the client received. */
export interface ClientRecord {
  readonly plan: ClientPlan;
  readonly id: string;
  /** In order of arrival, over all connections. */
  readonly events: readonly JobEvent[];
  /** How many connections it needed to read all events. */
  readonly connections: number;
  /** Longest time between two events. */
  readonly pauseMs: number;
  readonly hasCancelled: boolean;
}

export class ChaosClient {
  readonly #api: JobClient;
  readonly #random: SeededRandom;
  readonly #idempotencyKey: string;

  /** @param idempotencyKey makes repeated submissions count as one */
  constructor(api: JobClient, random: SeededRandom, idempotencyKey: string) {
    this.#api = api;
    this.#random = random;
    this.#idempotencyKey = idempotencyKey;
  }

  /** @returns null if the client stopped before it knew that its job was accepted */
  async run(plan: ClientPlan, signal: AbortSignal): Promise<ClientRecord | null> {
    const id = await this.#submit(plan, signal);
    if (id === null) return null;
    const events: JobEvent[] = [];
    let [connections, pauseMs, lastMs] = [0, 0, Date.now()];
    let hasCancelled = false;
    while (!events.some(isEnd)) {
      connections++;
      const connectionEnd = AbortSignal.timeout(this.#random.integer(...CONNECTION_MS));
      try {
        const after = events.at(-1)?.seq ?? 0;
        for await (const event of this.#api.events(id, {
          after,
          signal: AbortSignal.any([connectionEnd, signal]),
        })) {
          pauseMs = Math.max(pauseMs, Date.now() - lastMs);
          lastMs = Date.now();
          events.push(event);
          if (hasCancelled || plan.cancelAfter === null || tokenCount(events) < plan.cancelAfter)
            continue;
          hasCancelled = true;
          void this.#cancel(id, signal);
        }
      } catch {
        // The connection ended: closed above, or broken by a fault.
      }
      if (signal.aborted) {
        throw new Error(
          `${id} did not end: ${events.length} events, the last ${events.at(-1)?.type}`,
        );
      }
      if (!events.some(isEnd)) await this.#pause();
    }
    return { plan, id, events, connections, pauseMs, hasCancelled };
  }

  async #submit(
    { input, retriesSubmission }: ClientPlan,
    signal: AbortSignal,
  ): Promise<string | null> {
    const headers = { "idempotency-key": this.#idempotencyKey };
    const body = JSON.stringify(input);
    for (;;) {
      const job = await this.#job("/v1/jobs", { method: "POST", headers, body }, signal);
      if (job !== null) return job.id;
      if (!retriesSubmission) return null;
      await this.#pause();
    }
  }

  async #cancel(id: string, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      if ((await this.#job(`/v1/jobs/${id}/cancel`, { method: "POST" }, signal)) !== null) return;
      await this.#pause();
    }
  }

  /** @returns null if there was no answer, or one that asks the client to try again */
  async #job(path: string, init: RequestInit, signal: AbortSignal): Promise<Job | null> {
    const deadline = AbortSignal.any([AbortSignal.timeout(REQUEST_MS), signal]);
    let reply: Response;
    let text: string;
    try {
      reply = await this.#api.request(path, { ...init, signal: deadline });
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
    return delay(this.#random.between(...PAUSE_MS));
  }
}

function tokenCount(events: readonly JobEvent[]): number {
  return events.reduce((sum, event) => sum + (event.type === "tokens" ? event.ids.length : 0), 0);
}
