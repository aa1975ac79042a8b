/** A job as its owner sees it: the record, the output so far, its place in the queue and its webhook deliveries. */
import { isTerminal, type Job } from "../api/jobs.ts";
import type { Outcome } from "../api/job-events.ts";
import { phaseOf, seconds, timingsOf } from "../jobs/phase.ts";
import type { Generation, JobRecord } from "../jobs/record.ts";
import { NEVER_RAN, type JobStore } from "../jobs/store.ts";
import { QueueEstimate } from "../queue/queue-estimate.ts";
import type { RedisClient } from "../redis/client.ts";
import { DeliveryStore } from "../webhooks/delivery-store.ts";
import { deliveryIdOf, messagesOf } from "../webhooks/message.ts";
import { outputWithCalls } from "./tool-calls.ts";

/** Where the parts of a job reply are read. */
export interface JobSources {
  readonly store: Pick<JobStore, "progress" | "textSoFar">;
  readonly queue: Pick<QueueEstimate, "forJob" | "waitingFor">;
  readonly deliveries: Pick<DeliveryStore, "attempts">;
}

export function jobSources(redis: RedisClient, store: JobStore): JobSources {
  return { store, queue: new QueueEstimate(redis), deliveries: new DeliveryStore(redis) };
}

/** The job of `GET /v1/jobs/{id}`. It reads what the record lacks: the log, the queue position, the deliveries. */
export async function readJob(record: JobRecord, sources: JobSources): Promise<Job> {
  const isEnded = isTerminal(record.state);
  const outcome = (isEnded ? record.outcome : NEVER_RAN) as Outcome;
  // At the same time: together they take one round trip to Redis.
  const [output, webhook, queue, waitingFor] = await Promise.all([
    readOutput(record, isEnded, sources),
    readWebhook(record, outcome.finish_reason, sources),
    record.state === "queued" ? sources.queue.forJob(record) : null,
    record.state === "running" ? sources.queue.waitingFor(record) : null,
  ]);
  return {
    id: record.id,
    object: "job",
    model: record.generation.model,
    state: record.state,
    phase: phaseOf(record),
    timings: timingsOf(record),
    queue,
    waiting_for: waitingFor,
    created_at: seconds(record.createdAtMs),
    started_at: seconds(record.startedAtMs),
    ended_at: seconds(record.endedAtMs),
    deleted_at: seconds(record.deletedAtMs),
    priority: record.priority,
    attempts: record.attempt,
    cancel_requested: record.cancelRequested,
    steering: jobSteering(record.generation),
    seed: record.generation.seed,
    reproducible: record.requestOptions.reproducible ?? false,
    output: {
      ...output,
      ...toolCalls(record, output.text),
      finish_reason: outcome.finish_reason,
      ...(outcome.stop_sequence !== undefined && { stop_sequence: outcome.stop_sequence }),
    },
    usage: isEnded ? outcome.usage : null,
    error: outcome.error,
    metadata: record.metadata,
    webhook,
  };
}

async function readWebhook(
  record: JobRecord,
  finishReason: Outcome["finish_reason"],
  { deliveries }: JobSources,
): Promise<Job["webhook"]> {
  const { tenant, webhookUrl: url } = record;
  if (!url) return null;
  const attempts = messagesOf(record, finishReason).map(async ({ id, type }) => {
    const ofMessage = await deliveries.attempts(tenant, deliveryIdOf(id, null));
    return ofMessage.map((attempt) => ({ ...attempt, type }));
  });
  const all = (await Promise.all(attempts)).flat();
  return { url, deliveries: all.toSorted((a, b) => a.at - b.at) };
}

/**
 * Text and token details. The details are only in the log, which has up to 12 MB with them, so they are read when the job has ended,
 * and not at each poll of a running one: its stream has them.
 */
async function readOutput(
  { id, text, tokens, generation }: JobRecord,
  isEnded: boolean,
  { store }: JobSources,
) {
  // Also of a job that was just submitted, so that its reply needs no read of the log.
  if (tokens === 0) return { text };
  const { grammar, logprobs, trace, promptLogprobs } = generation;
  if (!isEnded) return { text: await store.textSoFar(id) };
  if (!grammar && logprobs === undefined && !trace && !promptLogprobs) return { text };
  const { ids: _, masked, ...progress } = await store.progress(id);
  return { ...progress, text, ...(masked && { masked_mean: mean(masked) }) };
}

function toolCalls({ id, generation }: JobRecord, text: string) {
  const { calls } = outputWithCalls(id, generation, text);
  return calls.length === 0 ? {} : { tool_calls: calls };
}

/** The steering of a job as the API returns it. */
export function jobSteering({
  alpha,
  schedule,
  pairs,
  pairConflicts,
  guards,
  gate,
  baseErrorMax,
  baseErrorAction,
  trace,
}: Generation): Job["steering"] {
  return {
    alpha,
    ...(schedule && { schedule }),
    ...(pairs && { pairs }),
    ...(pairConflicts && { pair_conflicts: pairConflicts }),
    ...(guards && { guards: publicGuards(guards) }),
    ...(gate && { gate: publicGate(gate) }),
    ...(baseErrorMax !== undefined && { base_error_max: baseErrorMax }),
    ...(baseErrorAction && { base_error_action: baseErrorAction }),
    ...(trace && { trace }),
  };
}

function publicGuards({ baseNucleus, klBudget, fallback }: NonNullable<Generation["guards"]>) {
  return {
    ...(baseNucleus !== undefined && { base_nucleus: baseNucleus }),
    ...(klBudget !== undefined && { kl_budget: klBudget }),
    ...(fallback !== undefined && { fallback }),
  };
}

function publicGate({ minEntropy, maxMargin }: NonNullable<Generation["gate"]>) {
  return {
    ...(minEntropy !== undefined && { min_entropy: minEntropy }),
    ...(maxMargin !== undefined && { max_margin: maxMargin }),
  };
}

const mean = (values: readonly number[]) =>
  values.reduce((sum, value) => sum + value, 0) / values.length;
