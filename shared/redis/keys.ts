/**
 * The key map: the name of every key and channel in Redis. No other file contains such a name. The folder redis/ owns what every
 * store needs: names, the client type, scripts, versions, time. It knows no jobs, no HTTP, and imports no Redis client.
 *
 * Each comment gives the type of the value, what it holds and when it expires; without a time it is kept until it is deleted.
 *
 * All names have the hash tag TAG: in a Redis Cluster they lie in one slot, so that one script may use all of them. Further shards of a
 * cluster have other tags (tags.ts).
 * Times are Unix milliseconds.
 */

/** It is also the prefix of BullMQ's queues. */
export const TAG = "{trimtab}";
/** BullMQ queue of webhook deliveries. */
export const DELIVERY_QUEUE = "deliver";
/** BullMQ queue of batches that have not ended. */
export const BATCH_QUEUE = "batch-steps";
export const QUEUES = [DELIVERY_QUEUE, BATCH_QUEUE] as const;

/** No value: readiness checks delete it, which Redis refuses when it takes no writes. */
export const READINESS_KEY = "{trimtab}:ready";

/** Hash: `number`, the place of this Redis among several; `count` of them, up to the last one with tenants (shards.ts). */
export const SHARD_KEY = "{trimtab}:shard";

// Jobs

/** Hash: a job (jobs/record.ts). Expires when its retention ends. */
export const JOB_PREFIX = "{trimtab}:job:";
export const jobKey = (jobId: string) => `${JOB_PREFIX}${jobId}`;
/**
 * Hash: what the jobs of one request share (jobs/stored-jobs.ts): their generation and request options. It expires after the
 * last of them.
 */
export const SHARED_PREFIX = "{trimtab}:job-shared:";
export const sharedKey = (firstJobId: string) => `${SHARED_PREFIX}${firstJobId}`;
/** Hash: the bytes of the requests whose jobs wait or run, by flow. */
export const REQUEST_BYTES_KEY = "{trimtab}:request-bytes";
/** Hash: the bytes of a tenant's ended jobs, by the time at which they expire (jobs/stored-bytes.ts). Expires after the last. */
export const STORED_BYTES_PREFIX = "{trimtab}:stored-bytes:";
/**
 * Sorted set: the jobs of a tenant that have a facet, by the time of their submission (jobs/job-index-lua.ts). The name ends with
 * tenant, ":" and facet.
 */
export const JOB_INDEX_PREFIX = "{trimtab}:jobs-by:";
/** String: when a job was submitted that has left these sets (Unix ms), for some minutes. The name ends with tenant, ":" and id. */
export const LIST_PLACE_PREFIX = "{trimtab}:list-place:";
/** Sorted set: the ended jobs that are in these sets (tenant, id and facets, in lines), by the time at which they expire. */
export const JOB_EXPIRY_KEY = "{trimtab}:job-expiry";
/** Stream: the events of a job; an entry's id is `<sequence number>-0`. Expires with the job. */
export const logKey = (jobId: string) => `{trimtab}:log:${jobId}`;
/** String: the text so far of a running job. Deleted when the job ends: then its hash holds the text. */
export const textKey = (jobId: string) => `{trimtab}:text:${jobId}`;
/** Channel: each event of a job as it is logged, "sequence number\ntype\ndata". */
export const eventChannel = (jobId: string) => `{trimtab}:events:${jobId}`;
/**
 * Sorted set: job ids by the time at which the sweeper looks at the job: to expire it, or to publish its end if that has
 * not been done.
 */
export const DUE_KEY = "{trimtab}:due";

// The use of the service (usage/usage-lua.ts)

/** Hash: the sums of a tenant's jobs that ended on a day, by API key and model. The name ends with tenant, ":" and day. Expires. */
export const USAGE_PREFIX = "{trimtab}:usage:";
/** Set: the tenants with jobs that ended on a day. The name ends with the day. Expires. */
export const USAGE_TENANTS_PREFIX = "{trimtab}:usage-tenants:";
/** Hash: the jobs that ended with an error on a day, by error code. The name ends with the day. Expires. */
export const FAILURES_PREFIX = "{trimtab}:failures:";
/**
 * Hash: the sums of a tenant's jobs that ended within an hour, by minute. The name ends with hour, ":" and tenant; without a tenant it has
 * those of all tenants. Expires an hour after that hour.
 */
export const ACTIVITY_PREFIX = "{trimtab}:activity:";

// The queue: fair queues by lane (queue/fair-queue-lua.ts) and leases (queue/lease-lua.ts)

/** Separates two parts of a name. No lane contains it: the ids in a lane are separated by one "+" and contain none. */
export const NAME_SEPARATOR = "++";

/** Set: the lanes that have waiting jobs. */
export const LANES_KEY = "{trimtab}:lanes";
/** Sorted set: all waiting jobs by the time of their submission. */
export const WAITING_JOBS_KEY = "{trimtab}:waiting";
/** Sorted set: the waiting jobs of a flow in a lane, the next one first. Its name ends with lane, "++" and flow. */
export const FLOW_QUEUE_PREFIX = "{trimtab}:lane-flow:";
/** Sorted set: the flows of a lane that have waiting jobs, by start tag. */
export const WAITING_FLOWS_PREFIX = "{trimtab}:lane-waiting:";
/**
 * Sorted set: the flows of a lane that have no waiting jobs but a start tag above the virtual time, by start tag. Expires an hour after
 * the lane became empty.
 */
export const IDLE_FLOWS_PREFIX = "{trimtab}:lane-idle:";
/**
 * Hash: of a lane, `virtualTime`, `batchVirtualTime` (that of batches) and `arrivals`, the count of jobs that ever waited. Expires
 * an hour after the lane became empty.
 */
export const LANE_COUNTERS_PREFIX = "{trimtab}:lane-counters:";
/** Hash: of a lane, the cost in tokens of all waiting jobs of a flow, by flow. */
export const FLOW_TOKENS_PREFIX = "{trimtab}:lane-tokens:";
/** Sorted set: running jobs by the time at which their lease expires. Its name ends with fingerprint (or nothing), "++" and lane. */
export const LEASES_PREFIX = "{trimtab}:leases:";
/** Sorted set: suspects by the time at which they were lost. Its name ends like that of the leases. */
export const SUSPECTS_PREFIX = "{trimtab}:suspects:";
/** Set: the ends of the names of all sets of leases and suspects that are not empty. */
export const LEASE_GROUPS_KEY = "{trimtab}:lease-groups";
/** String: the counts of each lane for scaling (JSON, queue/lane-counts.ts). Expires a minute after they were made. */
export const LANE_COUNTS_KEY = "{trimtab}:lane-counts";
/** String: held by the process that makes these counts, and until the next ones may be made. Expires. */
export const LANE_COUNTS_LEASE_KEY = "{trimtab}:lane-counts-lease";
/**
 * String: the last claim of a worker (JSON, jobs/take-script.ts), by the worker's random id. A claim whose reply was lost is
 * repeated from it. It expires after ten minutes.
 */
export const LAST_CLAIM_PREFIX = "{trimtab}:last-claim:";
/**
 * Channel to all workers that generate: `work <lane>` (a job can be taken), `cancel <job>` (a running job was cancelled),
 * `end <job>` (a running job was deleted, or ended by another process).
 */
export const SIGNALS_CHANNEL = "{trimtab}:signals";
/**
 * Keys of the queue of releases before lanes: its jobs are assigned to lanes, then these keys are deleted
 * (worker/jobs/queue-repair.ts). `flow` is the prefix of the waiting jobs of a flow; `queue` is a BullMQ queue.
 */
export const OLD_QUEUE = {
  waitingFlows: "{trimtab}:fair:waiting-flows",
  idleFlows: "{trimtab}:fair:idle-flows",
  counters: "{trimtab}:fair:counters",
  tokens: "{trimtab}:fair:tokens",
  permits: "{trimtab}:permits",
  flow: "{trimtab}:flow:",
  queue: "generate",
} as const;

// Workers and models (workers/registry.ts)

/** Sorted set: the workers that generate, by the time of their last heartbeat. */
export const WORKERS_KEY = "{trimtab}:workers";
/** Hash: the time of a worker's first heartbeat, a space, and its last report (JSON, workers/worker-report.ts), by worker. */
export const WORKER_REPORTS_KEY = "{trimtab}:worker-reports";
/** Set: the workers that take no more jobs, because the operator drains them. A worker leaves it when it stops or is lost. */
export const DRAINING_WORKERS_KEY = "{trimtab}:draining-workers";
/** Hash: the models whose jobs the operator lets wait, with the time since when (Unix ms), by model id. */
export const PAUSED_MODELS_KEY = "{trimtab}:paused-models";
/** Hash: the known models (JSON, workers/model-card.ts), by model id. */
export const MODELS_KEY = "{trimtab}:models";
/** Hash: the worker whose card of a model is the known one, by model id. */
export const MODEL_WRITERS_KEY = "{trimtab}:model-writers";
/** Sorted set: the known models by the time of the last heartbeat of a worker that served it. */
export const MODELS_SEEN_KEY = "{trimtab}:models-seen";

// Requests for tokenizers (workers/tokenizer-requests.ts)

/** List: requests for the tokenizers of a model, the oldest first. Expires after 10 s without a new one. */
export const tokenizerQueueKey = (model: string) => `{trimtab}:tokenizer-queue:${model}`;
/** Sorted set: a tenant's requests for tokenizers without an answer, by the time until which they wait. Expires after 10 s. */
export const tokenizerPendingKey = (tenant: string) => `{trimtab}:tokenizer-pending:${tenant}`;
/** List: checks of the prompts of a lane's waiting jobs (workers/prompt-checks.ts), the oldest first. Expires after 10 s without a new one. */
export const promptCheckQueueKey = (lane: string) => `{trimtab}:prompt-check-queue:${lane}`;
/** Sorted set: a tenant's jobs whose prompts are to be checked, by the time until which the check waits. Expires after 10 s. */
export const promptChecksKey = (tenant: string) => `{trimtab}:prompt-checks:${tenant}`;
/** Channel to all workers that generate: the model of a new request, or the lane of a new prompt check. */
export const TOKENIZER_CHANNEL = "{trimtab}:tokenizer-requests";

// API keys and their limits, tickets, and requests that may be sent again

/** String: an API key's id, by the SHA-256 of its secret. After a rotation, that of the old secret expires with the overlap. */
export const KEY_HASH_PREFIX = "{trimtab}:key-hash:";
export const keyHashKey = (sha256: string) => `${KEY_HASH_PREFIX}${sha256}`;
/** Hash: an API key (keys/record.ts), by its id. */
export const API_KEY_PREFIX = "{trimtab}:key:";
export const apiKeyKey = (keyId: string) => `${API_KEY_PREFIX}${keyId}`;
/** Channel: an empty message when an API key was revoked or has changed. */
export const keyChannel = (keyId: string) => `{trimtab}:key-events:${keyId}`;
/** Set: the ids of all API keys. */
export const API_KEYS_KEY = "{trimtab}:keys";
/** Set: the ids of a tenant's API keys. */
export const TENANT_KEYS_PREFIX = "{trimtab}:tenant-keys:";
export const tenantKeysKey = (tenant: string) => `${TENANT_KEYS_PREFIX}${tenant}`;
/** Hash: the requests and tokens that an API key has left, and when that was computed (`requestsAtMs`, `tokensAtMs`). Expires 2 minutes after it. */
export const KEY_RATES_PREFIX = "{trimtab}:key-rates:";
/** Set: the ids of an API key's jobs that have not ended. */
export const KEY_JOBS_PREFIX = "{trimtab}:key-jobs:";
/** The id under which an API key's batches are counted: they have separate rates and a separate set of jobs. */
export const batchPoolId = (keyId: string) => `${keyId}:batch`;
/** Hash: `fingerprint` (the SHA-256 of the request) and `job` of a request with an Idempotency-Key, by the key's SHA-256. Expires. */
export const idempotencyKey = (tenant: string, sha256: string) =>
  `{trimtab}:idempotency:${tenant}:${sha256}`;
/** Hash: `fingerprint` and `job` of a request without one, by which a client library's retry is recognised. Expires. */
export const retryKey = (keyId: string, requestHash: string) =>
  `{trimtab}:retry:${keyId}:${requestHash}`;
/** String: a ticket (JSON), by its SHA-256. Expires with the ticket. */
export const ticketKey = (sha256: string) => `{trimtab}:ticket:${sha256}`;

// Webhooks

/** Hash: `current` and `previous`, the keys that sign a tenant's webhooks (JSON), and `previousUntilMs`. */
export const signingKeysKey = (tenant: string) => `{trimtab}:signing:${tenant}`;
/** Hash: `secret`, from which the key sets of tenants that do not exist are made. */
export const DECOY_KEY = "{trimtab}:signing-decoy";
/** Hash: a tenant's webhook endpoints (JSON), by id. */
export const endpointsKey = (tenant: string) => `{trimtab}:endpoints:${tenant}`;
/** Hash: the health of these endpoints: `<id>:disabled` (JSON: why and when), `<id>:failing` (since when). */
export const endpointHealthKey = (tenant: string) => `{trimtab}:endpoint-health:${tenant}`;
/** Sorted set: a tenant's webhook deliveries by creation time. Expires 7 days after the newest. */
export const deliveriesKey = (tenant: string) => `{trimtab}:deliveries:${tenant}`;
/** The same of its deliveries about jobs that have not ended, which are not in the other set. */
export const deliveriesBeforeEndKey = (tenant: string) =>
  `{trimtab}:deliveries-before-end:${tenant}`;
/** Hash: a delivery with its body (webhooks/delivery-store.ts). Expires 7 days after it was created or replayed. */
export const DELIVERY_PREFIX = "{trimtab}:delivery:";
export const deliveryKey = (tenant: string, id: string) => `${DELIVERY_PREFIX}${tenant}:${id}`;
/** List: the latest attempts of a delivery (JSON). Expires with the delivery. */
export const ATTEMPTS_PREFIX = "{trimtab}:attempts:";
export const attemptsKey = (tenant: string, id: string) => `${ATTEMPTS_PREFIX}${tenant}:${id}`;
/**
 * Sorted set: BullMQ ids of a tenant's deliveries that wait until fewer of its others are being sent, by the time since when.
 * Expires after 7 days.
 */
export const waitingDeliveriesKey = (tenant: string) => `{trimtab}:waiting-deliveries:${tenant}`;
/** Stream: a tenant's webhook messages; an entry's id is `<sequence number>-0`. Expires a day after the newest. */
export const inboxKey = (tenant: string) => `{trimtab}:inbox:${tenant}`;
/** String: the sequence number of the newest message. Never expires, so that no number is used twice. */
export const inboxSeqKey = (tenant: string) => `{trimtab}:inbox-seq:${tenant}`;
/** Sorted set: ids of the messages that are, or lately were, in the inbox, by sequence number. Expires a day after the newest. */
export const inboxNumbersKey = (tenant: string) => `{trimtab}:inbox-numbers:${tenant}`;
/** Channel: the sequence number of each new message. */
export const inboxChannel = (tenant: string) => `{trimtab}:inbox-events:${tenant}`;

/** String: count of a tenant's messages about the progress of jobs. Expires a minute after the first. */
export const progressTurnsKey = (tenant: string) => `{trimtab}:progress-turns:${tenant}`;

// Files and batches

/** Hash: a tenant's files (JSON, files/record.ts), by id. */
export const filesKey = (tenant: string) => `{trimtab}:files:${tenant}`;
/** Sorted set: a tenant's open uploads, by the time at which their lease ends. */
export const fileUploadsKey = (tenant: string) => `{trimtab}:file-uploads:${tenant}`;
/**
 * Hash: `tenant uploadId` of uploads that have begun an object in the bucket, by file id. Those that ended are removed by the
 * sweeper (files/lost-uploads.ts).
 */
export const MULTIPART_UPLOADS_KEY = "{trimtab}:multipart-uploads";
/** Hash: the bytes in Redis of each file and open upload of a tenant, by id, and their sum for each purpose. */
export const fileRoomKey = (tenant: string) => `{trimtab}:file-room:${tenant}`;
/** String: the content of a file, or the part of a result file that is not in the bucket yet. Expires with the file. */
export const contentKey = (fileId: string) => `{trimtab}:content:${fileId}`;
/** Hash: a batch (batches/record.ts). Expires 30 days after its end. */
export const batchKey = (id: string) => `{trimtab}:batch:${id}`;
/** Hash: the lines of a batch whose jobs have not ended (JSON), by line number. Deleted when the batch ends. */
export const batchLinesKey = (id: string) => `{trimtab}:batch-lines:${id}`;
/** Hash: the line number of each custom_id of a batch. Deleted when the batch ends. */
export const batchCustomIdsKey = (id: string) => `{trimtab}:batch-names:${id}`;
/** Sorted set: a tenant's batches by creation time, the newest thousand. */
export const batchesKey = (tenant: string) => `{trimtab}:batches:${tenant}`;
/** Set: a tenant's batches that have not ended. */
export const openBatchesKey = (tenant: string) => `{trimtab}:open-batches:${tenant}`;
/** Set: the batches of all tenants that have not ended. */
export const OPEN_BATCHES_KEY = "{trimtab}:open-batches";
