/**
 * All that routes know of what lies behind the edge. One backend serves one request and is closed with it.
 * Every method fails with AppError `queue_unavailable` when what lies behind does not answer in time.
 */
import type { Admission, Admitted } from "../shared/admission.ts";
import type { BatchStore } from "../shared/batch-store.ts";
import type { FileRecord, FileStore } from "../shared/file-store.ts";
import type { Job, JobEvent } from "../shared/contract.ts";
import type { InboxEntry } from "../shared/inbox-store.ts";
import type { QueuePlace } from "../shared/outlook.ts";
import type { ApiKeyRecord, JobRecord, ModelCard, NewJob } from "../shared/job.ts";
import type { TicketRecord } from "../shared/ticket.ts";
import type { KeyRegistry } from "../shared/key-registry.ts";
import type { Webhooks } from "../shared/webhooks.ts";

export interface FollowRequest {
  /** Sequence number of the last event that the reader has; 0 for none. */
  readonly after: number;
  /** Ends the following, without an error. */
  readonly signal: AbortSignal;
  /** Called whenever nothing happened for a heartbeat's time. */
  readonly onIdle?: () => void;
}

export interface Backend {
  /** The record of the key with this SHA-256, or null. */
  authenticate(keyHash: string): Promise<ApiKeyRecord | null>;
  /** Keeps a ticket under its SHA-256. */
  saveTicket(sha256: string, ticket: TicketRecord, seconds: number): Promise<void>;
  ticket(sha256: string): Promise<TicketRecord | null>;
  /** Works on the API keys. */
  keys<T>(work: (keys: KeyRegistry) => Promise<T>): Promise<T>;
  /** Every ensemble that is served, by name. */
  models(): Promise<ModelCard[]>;
  model(id: string): Promise<ModelCard | null>;
  /**
   * Resolves once a request's jobs, all or none, are both recorded and queued: from then on they run whatever becomes of
   * the edge.
   */
  submit(jobs: readonly NewJob[], admission: Admission): Promise<Admitted>;
  /** Where a job would stand that came now. */
  outlook(
    tenant: string,
    priority: number,
  ): Promise<{ place: QueuePlace; earliest: number | null }>;
  record(jobId: string): Promise<JobRecord | null>;
  /** The job as its owner sees it. */
  view(record: JobRecord): Promise<Job>;
  /** Idempotent; resolves to the job after it, or null if it was deleted meanwhile. */
  cancel(jobId: string): Promise<Job | null>;
  /** Cancels a job that has not ended, without a webhook, and deletes all that is kept of it. */
  delete(jobId: string): Promise<void>;
  /** Events so far. */
  log(jobId: string): Promise<JobEvent[]>;
  /** Events after the cursor, live; ends after the terminal one, on abort, or when the job is deleted. */
  follow(jobId: string, request: FollowRequest): AsyncIterable<JobEvent>;
  /** Works on the files. */
  files<T>(work: (files: FileStore) => Promise<T>): Promise<T>;
  /** A file's bytes, as they come. */
  content(file: FileRecord): AsyncIterable<Uint8Array>;
  /** Works on the batches. */
  batches<T>(work: (batches: BatchStore) => Promise<T>): Promise<T>;
  /** Hands a batch, idempotently, to the workers. */
  enqueueBatch(id: string): Promise<void>;
  /** Works on endpoints, deliveries, signing keys and the inbox. */
  webhooks<T>(work: (webhooks: Webhooks) => Promise<T>): Promise<T>;
  /** Messages of a tenant's inbox after the cursor, live; ends on abort. */
  followInbox(tenant: string, request: FollowRequest): AsyncIterable<InboxEntry>;
  ping(): Promise<void>;
  close(): void;
}
