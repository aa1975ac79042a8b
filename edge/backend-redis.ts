/**
 * The backend on Redis: records and events in a JobStore, jobs and webhooks on BullMQ queues.
 * It lives for one request, because workerd lets no request use a socket that another opened; so it saves round trips and
 * has at most one connection, opened on first use. Logs are followed elsewhere (fan-out.ts).
 */
import { Queue } from "bullmq";
import type { Redis } from "ioredis";
import * as v from "valibot";
import type { Admission, Admitted } from "../shared/admission.ts";
import { AppError } from "../shared/errors.ts";
import type { Job, JobEvent } from "../shared/contract.ts";
import { follow, followInbox, type FollowOptions } from "../shared/follow.ts";
import { enqueue } from "../shared/generation-queue.ts";
import type { InboxEntry } from "../shared/inbox-store.ts";
import {
  type ModelCard,
  type ApiKeyRecord,
  type DeliveryPayload,
  type JobRecord,
  type NewJob,
} from "../shared/job.ts";
import { batchQueueJob } from "../shared/batch-queue.ts";
import { BatchStore } from "../shared/batch-store.ts";
import { bucketOf } from "../shared/bucket.ts";
import { FileStore, type FileRecord } from "../shared/file-store.ts";
import { readModel, readModels } from "../shared/models.ts";
import { KeyRegistry } from "../shared/key-registry.ts";
import { choiceIds } from "../shared/job-names.ts";
import { Outlook } from "../shared/outlook.ts";
import { JobStore } from "../shared/job-store.ts";
import {
  BATCH_QUEUE,
  DELIVERY_QUEUE,
  GENERATION_QUEUE,
  QUEUE_PREFIX,
  ticketKey,
} from "../shared/redis-keys.ts";
import { Webhooks } from "../shared/webhooks.ts";
import { TicketRecord } from "../shared/ticket.ts";
import type { Backend, FollowRequest } from "./backend.ts";
import { connect } from "./connect.ts";
import type { Env } from "./env.ts";
import { fannedOut, type LogKind } from "./fan-out.ts";

/** A connection and what is done over it. */
interface Connection {
  readonly redis: Redis;
  readonly store: JobStore;
  readonly files: FileStore;
}

export class RedisBackend implements Backend {
  readonly #env: Env;
  readonly #followers: DurableObjectNamespace;
  #connection: Connection | null = null;

  constructor(env: Env, followers: DurableObjectNamespace) {
    this.#env = env;
    this.#followers = followers;
  }

  get #open(): Connection {
    if (this.#connection !== null) return this.#connection;
    const redis = connect(this.#env);
    const store = new JobStore(redis, this.#env.RESULT_TTL_SECONDS * 1000);
    return (this.#connection = { redis, store, files: new FileStore(redis, bucketOf(this.#env)) });
  }

  get #redis(): Redis {
    return this.#open.redis;
  }

  get #store(): JobStore {
    return this.#open.store;
  }

  get #files(): FileStore {
    return this.#open.files;
  }

  authenticate(keyHash: string): Promise<ApiKeyRecord | null> {
    return this.keys((keys) => keys.authenticate(keyHash));
  }

  keys<T>(work: (keys: KeyRegistry) => Promise<T>): Promise<T> {
    return available(() => work(new KeyRegistry(this.#redis)));
  }

  saveTicket(sha256: string, ticket: TicketRecord, seconds: number): Promise<void> {
    return available(async () => {
      await this.#redis.set(ticketKey(sha256), JSON.stringify(ticket), "EX", seconds);
    });
  }

  ticket(sha256: string): Promise<TicketRecord | null> {
    return available(async () => {
      const ticket = await this.#redis.get(ticketKey(sha256));
      return ticket === null ? null : v.parse(TicketRecord, JSON.parse(ticket));
    });
  }

  models(): Promise<ModelCard[]> {
    return available(() => readModels(this.#redis));
  }

  model(id: string): Promise<ModelCard | null> {
    return available(() => readModel(this.#redis, id));
  }

  files<T>(work: (files: FileStore) => Promise<T>): Promise<T> {
    return available(() => work(this.#files));
  }

  content(file: FileRecord): AsyncGenerator<Uint8Array> {
    return availableAll(this.#files.read(file));
  }

  batches<T>(work: (batches: BatchStore) => Promise<T>): Promise<T> {
    return available(() => work(new BatchStore(this.#redis)));
  }

  enqueueBatch(id: string): Promise<void> {
    return available(async () => {
      const { name, data, opts } = batchQueueJob(id);
      await this.#queue(BATCH_QUEUE).add(name, data, opts);
    });
  }

  submit(jobs: readonly NewJob[], admission: Admission): Promise<Admitted> {
    return available(async () => {
      // The records first: a worker must find them.
      const admitted = await this.#store.submitAll(jobs, admission);
      if (admitted.status === "created") await this.#enqueue(jobs.map(({ id }) => id));
      // The first request may have been cut off between the two steps; the queue knows a job by its id.
      if (admitted.status === "existing") await this.#enqueue(await this.#queuedChoices(admitted));
      return admitted;
    });
  }

  /** Of the jobs of a request those that no worker has. */
  async #queuedChoices({ jobId }: { readonly jobId: string }): Promise<string[]> {
    const first = await this.#store.record(jobId);
    if (first === null) return [];
    const others = choiceIds(first).slice(1);
    const records = await Promise.all(others.map((id) => this.#store.record(id)));
    return [first, ...records].flatMap((record) => (record?.state === "queued" ? record.id : []));
  }

  #enqueue(jobIds: readonly string[]): Promise<void> {
    return enqueue(this.#queue(GENERATION_QUEUE), jobIds);
  }

  outlook(tenant: string, priority: number) {
    return available(() => new Outlook(this.#redis).ofNew(tenant, priority));
  }

  record(jobId: string): Promise<JobRecord | null> {
    return available(() => this.#store.record(jobId));
  }

  view(record: JobRecord): Promise<Job> {
    return available(() => this.#store.view(record));
  }

  cancel(jobId: string): Promise<Job | null> {
    return available(async () => {
      const cancelled = await this.#store.cancel(jobId);
      const record = await this.#store.record(jobId);
      if (record === null) return null;
      const job = await this.#store.view(record);
      // A job that a worker holds is announced by that worker when it ends. It is cancelled in any case: a sweep announces
      // what could not be announced here.
      if (cancelled === "cancelled") {
        await this.#webhooks()
          .announcer.ended(record, job)
          .catch(() => {});
      }
      return job;
    });
  }

  delete(jobId: string): Promise<void> {
    return available(async () => {
      const record = await this.#store.record(jobId);
      await this.#store.delete(jobId);
      if (record !== null) await this.#webhooks().announcer.forget(record.tenant, jobId);
    });
  }

  log(jobId: string): Promise<JobEvent[]> {
    return available(() => this.#store.log(jobId));
  }

  follow(jobId: string, request: FollowRequest): AsyncGenerator<JobEvent> {
    const own = () => follow(this.#redis, this.#store, jobId, this.#polling(request));
    return this.#follow("job", jobId, request, own);
  }

  followInbox(tenant: string, request: FollowRequest): AsyncGenerator<InboxEntry> {
    const own = () =>
      followInbox(this.#redis, this.#webhooks().inbox, tenant, this.#polling(request));
    return this.#follow("inbox", tenant, request, own);
  }

  /** Through an object that others share, or by this request's own connection. */
  #follow<T extends { readonly seq: number }>(
    kind: LogKind,
    name: string,
    request: FollowRequest,
    own: () => AsyncIterable<T>,
  ): AsyncGenerator<T> {
    const count = this.#env.STREAM_CONNECTIONS;
    if (count === 0) return availableAll(own());
    // Streams are long: the connection is opened again if there is something to do.
    this.#rest();
    return availableAll(fannedOut<T>({ followers: this.#followers, count }, kind, name, request));
  }

  #polling(request: FollowRequest): FollowOptions {
    return { ...request, pollMs: this.#env.STREAM_HEARTBEAT_SECONDS * 1000 };
  }

  webhooks<T>(work: (webhooks: Webhooks) => Promise<T>): Promise<T> {
    return available(() => work(this.#webhooks()));
  }

  ping(): Promise<void> {
    return available(async () => {
      await this.#redis.ping();
    });
  }

  close(): void {
    this.#connection?.redis.disconnect();
    this.#connection = null;
  }

  /** Closes the connection when what is on its way has been answered. */
  #rest(): void {
    const redis = this.#connection?.redis;
    this.#connection = null;
    redis?.quit().catch(() => redis.disconnect());
  }

  #webhooks(): Webhooks {
    return new Webhooks(this.#redis, this.#queue<DeliveryPayload>(DELIVERY_QUEUE));
  }

  /** A queue to add to, on this connection; workers write the queue's meta data. */
  #queue<T = object>(name: string): Queue<T> {
    const queue = new Queue<T>(name, {
      connection: this.#redis,
      prefix: QUEUE_PREFIX,
      skipVersionCheck: true,
      skipMetasUpdate: true,
      skipWaitingForReady: true,
    });
    // Without a listener an error event would throw; the command that failed rejects anyway.
    queue.on("error", () => {});
    return queue;
  }
}

/** Runs what needs Redis, and says `queue_unavailable` when Redis is what failed. */
async function available<T>(run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    throw asAppError(error);
  }
}

/** The same for what is read bit by bit. */
async function* availableAll<T>(source: AsyncIterable<T>): AsyncGenerator<T> {
  try {
    yield* source;
  } catch (error) {
    throw asAppError(error);
  }
}

function asAppError(error: unknown): unknown {
  if (error instanceof AppError || !isRedisFailure(error)) return error;
  return new AppError("queue_unavailable", "The queue does not answer; try again", {
    cause: error,
  });
}

/** Whether Redis, or the way to it, is at fault; a command that is wrong (`ERR`, `WRONGTYPE`) is our fault. */
function isRedisFailure(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if (error.name === "ReplyError")
    return !/^(ERR|WRONGTYPE|NOSCRIPT|BUSYKEY)\b/.test(error.message);
  if (error instanceof v.ValiError || error instanceof SyntaxError) return false;
  return !(
    error instanceof TypeError ||
    error instanceof RangeError ||
    error instanceof ReferenceError
  );
}
