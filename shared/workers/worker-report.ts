/** The report that a worker that generates sends with each heartbeat. */
import * as v from "valibot";
import { fromJson } from "../redis/fields.ts";

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

/** A model at one worker. */
const ServedModel = v.object({
  id: v.string(),
  fingerprint: v.string(),
  reproducible: v.boolean(),
  /** Why the worker cannot serve it now: its base is on another server that does not answer. Absent if it can. */
  away: v.exactOptional(v.string()),
});

export const WorkerReport = v.object({
  /** The version of trimtab that it runs. */
  version: v.string(),
  throughput: Throughput,
  /** The models that it serves. */
  models: v.array(ServedModel),
});
export type WorkerReport = v.InferOutput<typeof WorkerReport>;

export const WorkerReportJson = v.pipe(fromJson, WorkerReport);
