/**
 * Names of everything in Redis, spelled nowhere else.
 * The braces are a hash tag: in a cluster all lives in one slot, so that one script may touch a job and its key's limits.
 */
export const QUEUE_PREFIX = "{trimtab}";
/** BullMQ queue of permits to run a job: as many as there are jobs, whichever each is then for. */
export const GENERATION_QUEUE = "generate";
/** BullMQ queue of webhook deliveries. */
export const DELIVERY_QUEUE = "deliver";
/** BullMQ queue of batches that have not ended. */
export const BATCH_QUEUE = "expand";
export const QUEUES = [GENERATION_QUEUE, DELIVERY_QUEUE, BATCH_QUEUE] as const;

export const JOB_PREFIX = "{trimtab}:job:";
export const jobKey = (jobId: string) => `${JOB_PREFIX}${jobId}`;
/** Stream of the job's events; an entry's id is `<sequence number>-0`. */
export const logKey = (jobId: string) => `{trimtab}:log:${jobId}`;
/** Channel that repeats each event as it is logged. */
export const bellChannel = (jobId: string) => `{trimtab}:bell:${jobId}`;

/** Sorted set of job ids by the time (ms) at which a sweep does what nobody did: expires it, or announces its end. */
export const DUE_KEY = "{trimtab}:due";
/** Hash of the job that each permit in use is for. */
export const PERMITS_KEY = "{trimtab}:permits";
/** BullMQ's lock on a permit: the token under which its worker took it. */
export const permitLockKey = (permitId: string) =>
  `${QUEUE_PREFIX}:${GENERATION_QUEUE}:${permitId}:lock`;
/** Sorted set of a flow's (fair-script.ts) waiting jobs, the next one first. */
export const FAIR_QUEUE_PREFIX = "{trimtab}:waiting:";
/** Sorted sets of flows by their tags: of those that have waiting jobs, and of those that have none. */
export const FAIR_WAITING_KEY = "{trimtab}:fair:waiting";
export const FAIR_RESTING_KEY = "{trimtab}:fair:resting";
/** The tag that was served last, by where tags begin; jobs that ever waited; tokens that each flow's jobs may cost. */
export const FAIR_CLOCK_KEY = "{trimtab}:fair:clock:";
export const FAIR_COUNT_KEY = "{trimtab}:fair:count";
export const FAIR_TOKENS_KEY = "{trimtab}:fair:tokens";
/** Hash of how fast each worker is (JSON), by its name. */
export const PACES_KEY = "{trimtab}:paces";
/** Hash of model cards by ensemble name, written by workers. */
export const MODELS_KEY = "{trimtab}:models";
/** An API key's id by the SHA-256 of its secret; expires with an overlap. */
export const KEY_HASH_PREFIX = "{trimtab}:key-hash:";
export const keyHashKey = (sha256: string) => `${KEY_HASH_PREFIX}${sha256}`;
/** Hash of an API key's record by its id. */
export const API_KEY_PREFIX = "{trimtab}:key:";
export const apiKeyKey = (keyId: string) => `${API_KEY_PREFIX}${keyId}`;
/** Hash of what a key has left of its rates. Exists as long as the key. */
export const KEY_RATES_PREFIX = "{trimtab}:key-rates:";
/** Under this id a key's batches have counters of their own. */
export const batchPoolId = (keyId: string) => `${keyId}:batch`;
/** Set of a key's jobs that have not ended. */
export const KEY_JOBS_PREFIX = "{trimtab}:key-jobs:";
/** Hash of a request's fingerprint and its job, by what makes a repetition of it known; expires. */
export const idempotencyKey = (tenant: string, sha256: string) =>
  `{trimtab}:idempotency:${tenant}:${sha256}`;
export const retryKey = (keyId: string, fingerprint: string) =>
  `{trimtab}:retry:${keyId}:${fingerprint}`;
/** A ticket's record (JSON) by its SHA-256; expires. */
export const ticketKey = (sha256: string) => `{trimtab}:ticket:${sha256}`;
/** Set of all key ids. */
export const API_KEYS_KEY = "{trimtab}:keys";
/** Set of a tenant's key ids. */
export const tenantKeysKey = (tenant: string) => `{trimtab}:tenant-keys:${tenant}`;

/** Hash of the keys that sign a tenant's webhooks. */
export const signingKeysKey = (tenant: string) => `{trimtab}:signing:${tenant}`;
/** Hash of a tenant's webhook endpoints by id. */
export const endpointsKey = (tenant: string) => `{trimtab}:endpoints:${tenant}`;
/** Hash of what befell them: `<id>:disabled` why, `<id>:failing` since when (ms). */
export const endpointHealthKey = (tenant: string) => `{trimtab}:endpoint-health:${tenant}`;
/** Sorted set of a tenant's webhook delivery ids by creation (ms). */
export const deliveriesKey = (tenant: string) => `{trimtab}:deliveries:${tenant}`;
export const deliveryKey = (tenant: string, id: string) => `{trimtab}:delivery:${tenant}:${id}`;
/** List of a delivery's attempts. */
export const attemptsKey = (tenant: string, id: string) => `{trimtab}:attempts:${tenant}:${id}`;
/** Stream of a tenant's webhook messages; an entry's id is `<sequence number>-0`. */
export const inboxKey = (tenant: string) => `{trimtab}:inbox:${tenant}`;
/** Sequence number of the last of them: it outlives the stream, so that no number is given twice. */
export const inboxSeqKey = (tenant: string) => `{trimtab}:inbox-seq:${tenant}`;
/** Sequence number of a message that is, or was, in the inbox. */
export const inboxMarkKey = (tenant: string, messageId: string) =>
  `{trimtab}:inbox-mark:${tenant}:${messageId}`;
/** Channel on which each new sequence number of the inbox is told. */
export const inboxBellChannel = (tenant: string) => `{trimtab}:inbox-bell:${tenant}`;

/** Hash of a tenant's files (JSON) by id. */
export const filesKey = (tenant: string) => `{trimtab}:files:${tenant}`;
/** Content of a file in Redis, or what is not in the bucket yet. */
export const contentKey = (fileId: string) => `{trimtab}:content:${fileId}`;
/** Hash of a batch. */
export const batchKey = (id: string) => `{trimtab}:batch:${id}`;
/** Hash of a batch's lines whose jobs have not ended, by number. */
export const batchLinesKey = (id: string) => `{trimtab}:batch-lines:${id}`;
/** Hash of line numbers by custom_id. */
export const batchNamesKey = (id: string) => `{trimtab}:batch-names:${id}`;
/** Sorted set of a tenant's batches by creation (ms), and the set of those that have not ended. */
export const batchesKey = (tenant: string) => `{trimtab}:batches:${tenant}`;
export const openBatchesKey = (tenant: string) => `{trimtab}:open-batches:${tenant}`;
/** Set of all batches that have not ended. */
export const OPEN_BATCHES_KEY = "{trimtab}:open-batches";
