/** The report that a worker that generates sends with each heartbeat. */
import * as v from "valibot";
import { fromJson } from "../redis/fields.ts";
import { JobTokensMax } from "./model-card.ts";

/** The slots of a worker, and how fast they are. The measured values are null until a job has ended. */
export const Throughput = v.object({
  /** Jobs that the worker can run at once. */
  slots: v.number(),
  /** Jobs that it runs now. */
  busy: v.number(),
  /** Tokens per second of one slot. */
  tokensPerSecond: v.nullable(v.number()),
  /** Mean tokens of a job, prompt included. */
  tokensMean: v.nullable(v.number()),
  /** The tokens that jobs used, divided by their cost: the tokens that they were estimated to need at most. */
  costShare: v.nullable(v.number()),
  /** Squared coefficient of variation of the tokens of a job. */
  tokensVariation: v.nullable(v.number()),
});
export type Throughput = v.InferOutput<typeof Throughput>;

/** The work of a worker's engine within the last minute, and its memory. */
export const EngineLoad = v.object({
  /** Generated tokens per second, of all jobs together. */
  tokensPerSecond: v.number(),
  /** Accepted ones of the drafted tokens; null if none was drafted. */
  acceptance: v.nullable(v.number()),
  /** The prompts' tokens that came from the prefix cache, of all; null if no prompt ended. */
  cachedShare: v.nullable(v.number()),
  /** Jobs that wait until the KV cache has room. */
  waiting: v.number(),
  cacheBytes: v.number(),
  cacheBytesMax: v.number(),
  prefixBytes: v.number(),
  prefixBytesMax: v.number(),
});
export type EngineLoad = v.InferOutput<typeof EngineLoad>;

/** A model at one worker. */
const ServedModel = v.object({
  id: v.string(),
  fingerprint: v.string(),
  reproducible: v.boolean(),
  /** Whether its base is on another server. Absent if not, and in a report of an older worker. */
  isRemote: v.exactOptional(v.boolean()),
  /** Why the worker cannot serve it now: its base is on another server that does not answer. Absent if it can. */
  away: v.exactOptional(v.string()),
  /** Absent in a report of an older worker. */
  jobTokensMax: v.exactOptional(JobTokensMax),
});

export const WorkerReport = v.object({
  /** The version of trimtab that it runs. */
  version: v.string(),
  throughput: Throughput,
  /** Why it takes no jobs at all: the clock of its machine is wrong. Absent if it takes them. */
  problem: v.exactOptional(v.string()),
  /** Absent in a report of an older worker. */
  engine: v.exactOptional(EngineLoad),
  /** The models that it serves. */
  models: v.array(ServedModel),
});
export type WorkerReport = v.InferOutput<typeof WorkerReport>;

export const WorkerReportJson = v.pipe(fromJson, WorkerReport);
