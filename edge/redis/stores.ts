/**
 * The folder redis/ owns the edge's connections and the reading of logs. It must not know HTTP.
 *
 * The stores of one request, and the operations that need several of them (submit, cancel, delete, follow).
 * All stores use one connection. On Node it is the one that all requests share. In workerd a request
 * cannot use a socket that another one opened: there it is the request's own, opened with the first command. Read a store from
 * here each time (`stores.jobs`) and do not keep it: following a log closes an own connection, and the next use opens a new one.
 */
import { Queue } from "bullmq";
import type { Redis } from "ioredis";
import { isTerminal, type Job } from "../../shared/api/jobs.ts";
import type { QueuePlace } from "../../shared/api/queue.ts";
import { batchQueueJob } from "../../shared/batches/queue.ts";
import { BatchStore } from "../../shared/batches/store.ts";
import { bucketOf } from "../../shared/files/bucket.ts";
import { FileStore } from "../../shared/files/store.ts";
import type { Admission, AdmissionResult, LimitPool } from "../../shared/jobs/admission.ts";
import { chargeRefusal } from "../../shared/jobs/refusals.ts";
import { rateLimitStatus } from "../../shared/jobs/rate-limit-status.ts";
import { UsageStore } from "../../shared/usage/store.ts";
import type { LogEntry } from "../../shared/jobs/log-entry.ts";
import type { JobRecord, NewJob } from "../../shared/jobs/record.ts";
import { submitPromptChecks } from "../../shared/workers/prompt-checks.ts";
import {
  submitTokenizerRequest,
  type RequestPool,
  type SubmitResult,
  type TokenizerRequest,
} from "../../shared/workers/tokenizer-requests.ts";
import { runningJobs } from "../../shared/jobs/running-jobs.ts";
import { JobLists } from "../../shared/jobs/job-lists.ts";
import { setMetadata } from "../../shared/jobs/metadata.ts";
import { readSentRequest, type SentRequest } from "../../shared/jobs/sent-request.ts";
import { JobStore } from "../../shared/jobs/store.ts";
import { MIB } from "../../shared/jobs/stored-limit.ts";
import { KeyRegistry } from "../../shared/keys/registry.ts";
import { readJob, type JobSources } from "../../shared/protocols/job-reply.ts";
import { laneOf } from "../../shared/queue/lanes.ts";
import { queueOverview, type QueueOverview } from "../../shared/queue/queue-overview.ts";
import { QueueEstimate } from "../../shared/queue/queue-estimate.ts";
import { redisNow } from "../../shared/redis/clock.ts";
import type { RedisClient } from "../../shared/redis/client.ts";
import { BATCH_QUEUE, DELIVERY_QUEUE } from "../../shared/redis/keys.ts";
import { commandsOf, tagOf } from "../../shared/redis/tags.ts";
import { DeliveryStore, type DeliveryPayload } from "../../shared/webhooks/delivery-store.ts";
import { EndpointStore } from "../../shared/webhooks/endpoint-store.ts";
import { InboxStore, type InboxEntry } from "../../shared/webhooks/inbox-store.ts";
import { WebhookPublisher } from "../../shared/webhooks/publisher.ts";
import { SigningStore } from "../../shared/webhooks/signing-store.ts";
import type { Env } from "../runtime/env.ts";
import type { SharedParts } from "./card-cache.ts";
import { connect, useToFollow } from "./connection.ts";
import { Fleet } from "./fleet.ts";
import type { Authority } from "./key-watch.ts";
import type { FollowRequest, LogReader, WaitRequest } from "./follow.ts";
import { Readiness } from "./readiness.ts";
import { logsOver } from "./shared-logs.ts";
import { TicketStore } from "./tickets.ts";

/** Pause before a wait for a job's end is repeated. */
const REPEATED_WAIT_MS = 200;

export class RequestStores {
  /** The number of the shard that these stores are of (shared/redis/shards.ts). */
  readonly shard: number;
  readonly #env: Env;
  readonly #sharedLogs: LogReader | null;
  readonly #shared: SharedParts | null;
  /** The request's own connection. */
  #connection: Redis | null = null;
  /** Follows logs over that connection. */
  #ownLogs: LogReader | null = null;
  #authority: Authority | undefined;
  #readsPlace = false;
  /** Of the job that this request has just submitted. */
  #newPlace: { readonly jobId: string; readonly place: Promise<QueuePlace | null> } | null = null;

  /**
   * @param sharedLogs follows logs over connections that requests share; null: over this request's own
   * @param shared what all requests share; null: this request opens its own connection
   * @param shard the number of the Redis that `env` names
   */
  constructor(
    env: Env,
    sharedLogs: LogReader | null,
    shared: SharedParts | null = null,
    shard = 0,
  ) {
    this.shard = shard;
    this.#env = env;
    this.#sharedLogs = sharedLogs;
    this.#shared = shared;
  }

  /** From now on, following and waiting end when this does not allow them any more. */
  actFor(authority: Authority): void {
    this.#authority = authority;
  }

  get #client(): Redis {
    return this.#shared?.redis ?? (this.#connection ??= connect(this.#env));
  }

  get #redis(): RedisClient {
    return commandsOf(this.#client);
  }

  get jobs(): JobStore {
    const { RESULT_TTL_SECONDS, STORED_MIB } = this.#env;
    return new JobStore(this.#redis, RESULT_TTL_SECONDS * 1000, STORED_MIB);
  }

  get jobLists(): JobLists {
    return new JobLists(this.#redis);
  }

  get usage(): UsageStore {
    return new UsageStore(this.#redis);
  }

  get keys(): KeyRegistry {
    return new KeyRegistry(this.#redis, this.shard);
  }

  get tickets(): TicketStore {
    return new TicketStore(this.#redis);
  }

  get files(): FileStore {
    return new FileStore(this.#redis, bucketOf(this.#env));
  }

  get batches(): BatchStore {
    return new BatchStore(this.#redis);
  }

  get endpoints(): EndpointStore {
    return new EndpointStore(this.#redis);
  }

  get deliveries(): DeliveryStore {
    return new DeliveryStore(this.#redis);
  }

  get inbox(): InboxStore {
    return new InboxStore(this.#redis);
  }

  get signingKeys(): SigningStore {
    return new SigningStore(this.#redis);
  }

  get publisher(): WebhookPublisher {
    return new WebhookPublisher(this.#redis, this.#queue<DeliveryPayload>(DELIVERY_QUEUE));
  }

  get readiness(): Readiness {
    return new Readiness(this.#redis, this.shard);
  }

  get queueEstimate(): QueueEstimate {
    return new QueueEstimate(this.#redis);
  }

  /** Workers and models. */
  get fleet(): Fleet {
    return new Fleet(this.#redis, this.#shared?.cards);
  }

  /** The queues of all tenants. */
  queueOverview = (): Promise<QueueOverview> => queueOverview(this.#redis);

  /** The running jobs of all tenants. */
  runningJobs = () => runningJobs(this.#redis);

  /** Records and queues the jobs of a request, all or none. Once this has resolved, they run even if the edge stops. */
  submit(jobs: readonly NewJob[], admission: Admission): Promise<AdmissionResult> {
    const [first] = jobs;
    return this.jobs.submitAll(jobs, admission, () => {
      if (!this.#readsPlace || first === undefined) return;
      const waiting = { ...first, lane: laneOf(first.generation) };
      const place = this.queueEstimate.forJob(waiting).catch(() => null);
      this.#newPlace = { jobId: first.id, place };
    });
  }

  /**
   * The next submission also asks for the place of its job, in the same round trip to Redis. `readJob` takes it from there, so that must
   * follow at once.
   */
  readPlaceWithSubmission(): void {
    this.#readsPlace = true;
  }

  /** Puts a request into the queue of a model's tokenizers; its answer is an entry of a log, which `followJob` reads. */
  submitTokenizerRequest(
    request: TokenizerRequest,
    pools: readonly RequestPool[],
  ): Promise<SubmitResult> {
    return submitTokenizerRequest(this.#redis, request, pools);
  }

  /** Asks workers to check the prompts of jobs that wait. */
  checkPrompts(job: Pick<JobRecord, "generation" | "tenant">, ids: readonly string[]) {
    return submitPromptChecks(this.#redis, laneOf(job.generation), job.tenant, ids);
  }

  /** Does something while logs are followed, for which another connection may be in use. */
  async besideLogs(work: () => Promise<void>): Promise<void> {
    await work().finally(() => this.#sharedLogs !== null && this.#quit());
  }

  /** Counts a refused request towards its API key's limit. @returns ms until the key may send another one; 0 for now */
  chargeRefusal(pools: readonly LimitPool[]): Promise<number[]> {
    return chargeRefusal(this.#redis, pools);
  }

  /** The rest of an API key's limits, and of those of the keys that it is within. */
  rateLimits(pools: readonly LimitPool[]) {
    return rateLimitStatus(this.#redis, pools);
  }

  /** Queues a batch for the workers. Idempotent. */
  async enqueueBatch(id: string): Promise<void> {
    const { name, data, opts } = batchQueueJob(id);
    await this.#queue(BATCH_QUEUE).add(name, data, opts);
  }

  /** The job as its owner sees it. */
  readJob(record: JobRecord): Promise<Job> {
    const { jobs: store, queueEstimate, deliveries } = this;
    const known = this.#newPlace?.jobId === record.id ? this.#newPlace.place : null;
    this.#newPlace = null;
    const queue: JobSources["queue"] = {
      // Redis did not have the job yet if the script was not cached there.
      forJob: async (job) => (await known) ?? queueEstimate.forJob(job),
      waitingFor: (job) => queueEstimate.waitingFor(job),
    };
    return readJob(record, { store, queue, deliveries });
  }

  /** Replaces the metadata of a job. */
  setMetadata(job: Pick<JobRecord, "id" | "tenant">, metadata: Readonly<Record<string, string>>) {
    return setMetadata(this.#redis, job, metadata, this.#env.STORED_MIB * MIB);
  }

  /** The request of a job as it was sent; null if it is not kept. */
  sentRequest(jobId: string): Promise<SentRequest | null> {
    const { jobs } = this;
    return readSentRequest(
      this.#redis,
      jobId,
      async (id) => (await jobs.record(id))?.generation.input ?? null,
    );
  }

  /** Idempotent. Resolves to the job afterwards, or to null if it was deleted meanwhile. */
  async cancelJob(jobId: string): Promise<Job | null> {
    const cancelled = await this.jobs.cancel(jobId);
    const record = await this.jobs.record(jobId);
    if (record === null) return null;
    const job = await this.readJob(record);
    // The webhooks of a running job are published by its worker when it ends. The job is cancelled even if publishing
    // fails: the workers' sweep publishes what was not published here.
    if (cancelled === "cancelled") await this.publisher.publishJobEnd(record, job).catch(() => {});
    return job;
  }

  /** Cancels a job that has not ended, without a webhook, and deletes its record, its log and its webhook messages. */
  async deleteJob(jobId: string): Promise<void> {
    const record = await this.jobs.record(jobId);
    await this.jobs.delete(jobId);
    if (record !== null) await this.publisher.deleteJobMessages(record.tenant, jobId);
  }

  /** A job's log after a sequence number, live. Ends after the last event, on abort, or when the job is deleted. */
  followJob(jobId: string, request: FollowRequest): AsyncGenerator<LogEntry> {
    return this.#logs(request).job(jobId, { ...request, authority: this.#authority });
  }

  /**
   * Waits until a job has ended.
   * @returns the ended job's record; null on abort, or if the job was deleted
   */
  async waitForEnd(jobId: string, request: WaitRequest): Promise<JobRecord | null> {
    for (;;) {
      await this.#logs(request).jobEnd(jobId, { ...request, authority: this.#authority });
      if (request.signal.aborted) return null;
      const record = await this.jobs.record(jobId);
      if (record === null || isTerminal(record.state)) return record;
      // A failover of Redis has lost the end that was seen. Another worker will run the job to its end.
      await new Promise((resolve) => setTimeout(resolve, REPEATED_WAIT_MS));
    }
  }

  /** Messages of a tenant's inbox after a sequence number, live. Ends on abort. */
  followInbox(tenant: string, request: FollowRequest): AsyncGenerator<InboxEntry> {
    return this.#logs(request).inbox(tenant, { ...request, authority: this.#authority });
  }

  #logs({ signal }: WaitRequest): LogReader {
    if (this.#sharedLogs !== null) {
      // Following can take hours, and the number of connections to Redis is limited. If the client has disconnected, following
      // ends at once, and the connection may be needed to cancel the request's jobs.
      if (!signal.aborted) this.#quit();
      return this.#sharedLogs;
    }
    // One reader for all choices of a request: they share the connection's subscriptions.
    if (this.#ownLogs === null) {
      useToFollow(this.#client, this.#env);
      this.#ownLogs = logsOver(this.#client, this.#env);
    }
    return this.#ownLogs;
  }

  /** The time of Redis, in Unix ms: the clocks of edges and workers may differ. */
  now(): Promise<number> {
    return redisNow(this.#redis);
  }

  /** Closes the request's own connection. */
  close(): void {
    this.#connection?.disconnect();
    this.#connection = null;
  }

  /** Closes the request's own connection after the replies to all commands that were sent. */
  #quit(): void {
    const redis = this.#connection;
    this.#connection = null;
    redis?.quit().catch(() => redis.disconnect());
  }

  /** A BullMQ queue to which jobs are added, on this connection. Workers write the queue's metadata. */
  #queue<T = object>(name: string): Queue<T> {
    const connection = this.#client;
    const queue = new Queue<T>(name, {
      connection,
      prefix: tagOf(connection),
      skipVersionCheck: true,
      skipMetasUpdate: true,
      skipWaitingForReady: true,
    });
    // Without a listener an error event would throw. The command that failed is rejected anyway.
    queue.on("error", () => {});
    return queue;
  }
}
