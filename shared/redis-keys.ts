/**
 * Names of everything in Redis, spelled nowhere else.
 * The braces are hash tags: in a cluster all keys of one job live in one slot, so one script may touch them.
 */
export const QUEUE_PREFIX = "{trimtab}";
/** BullMQ queue of jobs to generate. */
export const GENERATION_QUEUE = "generate";
/** BullMQ queue of webhook deliveries. */
export const DELIVERY_QUEUE = "deliver";

export const jobKey = (jobId: string) => `trimtab:{${jobId}}:job`;
/** Stream of the job's events; an entry's id is `<sequence number>-0`. */
export const logKey = (jobId: string) => `trimtab:{${jobId}}:log`;
/** Channel that repeats each event as it is logged. */
export const bellChannel = (jobId: string) => `trimtab:{${jobId}}:bell`;
/** List of webhook delivery attempts. */
export const deliveriesKey = (jobId: string) => `trimtab:{${jobId}}:deliveries`;

/** Sorted set of unfinished job ids by the time (ms) at which they expire. */
export const DEADLINES_KEY = "trimtab:deadlines";
/** Hash of model cards by ensemble name, written by workers. */
export const MODELS_KEY = "trimtab:models";
/** Hash of an API key's record by the SHA-256 of the key. */
export const apiKeyKey = (sha256: string) => `trimtab:key:${sha256}`;
/** Hash of key id -> SHA-256, so that keys can be listed and revoked. */
export const API_KEYS_KEY = "trimtab:keys";
/** Hash of a tenant's settings (webhook secret). */
export const tenantKey = (tenant: string) => `trimtab:tenant:${tenant}`;
