/** Which waiting job is next, and what is before one: the scripts of fair-script.ts as functions. */
import { flowOf, LOCATE, TAKE, USE_UP, WAITING } from "./fair-script.ts";
import type { Permit } from "./generation-queue.ts";
import type { NewJob } from "./job.ts";
import { permitLockKey } from "./redis-keys.ts";
import { script, type RedisClient, type Script } from "./redis-client.ts";

export interface Taken {
  readonly id: string;
  /** Whether the job's last attempt was lost without a token: it may be what its worker was lost for. */
  readonly isSuspect: boolean;
}

/** What is to start before a job. */
export interface Ahead {
  readonly jobs: number;
  /** Tokens that they may come to at most. */
  readonly tokens: number;
}

export class FairQueue {
  readonly #take: Script;
  readonly #useUp: Script;
  readonly #locate: Script;
  readonly #waiting: Script;

  constructor(redis: RedisClient) {
    this.#take = script(redis, "TAKE", 1, TAKE);
    this.#useUp = script(redis, "USEUP", 0, USE_UP);
    this.#locate = script(redis, "LOCATE", 0, LOCATE);
    this.#waiting = script(redis, "WAITING", 0, WAITING);
  }

  /**
   * The job that a permit is for: the same one until the permit is used up. Null where none waits, or where the permit is
   * another worker's by now.
   */
  async take({ id, token }: Permit): Promise<Taken | null> {
    const reply = (await this.#take(permitLockKey(id), id, token)) as [string, 0 | 1] | null;
    return reply && { id: reply[0], isSuspect: reply[1] === 1 };
  }

  /** Lets a permit go whose job has ended. */
  async useUp(permit: string, jobId: string): Promise<void> {
    await this.#useUp(permit, jobId);
  }

  /** Ids of jobs that wait, in no order. */
  async waiting(countMax: number): Promise<string[]> {
    return (await this.#waiting(countMax)) as string[];
  }

  /** What is before a job that waits; null if it does not. */
  aheadOf(job: Pick<NewJob, "id" | "tenant" | "asked">): Promise<Ahead | null> {
    return this.#ahead(flowOf(job), job.id, 0);
  }

  /** What would be before a job that came now. */
  async aheadOfNew(tenant: string, priority: number): Promise<Ahead> {
    return (await this.#ahead(tenant, "", priority))!;
  }

  async #ahead(flow: string, id: string, priority: number): Promise<Ahead | null> {
    const reply = (await this.#locate(flow, id, priority)) as [number, number] | null;
    return reply && { jobs: reply[0], tokens: reply[1] };
  }
}
