/**
 * The guarantees about each job, checked from outside after a run with faults. They compare what the client received,
 * the event log, the job's record, its webhooks, and the output of the same request in a run without faults.
 */
import { isTerminal, type Job } from "../../shared/api/jobs.ts";
import { isEnd } from "../../shared/api/job-events.ts";
import type { JobEvent } from "../../shared/api/job-events.ts";
import type { ReceivedWebhook } from "../../infra/cli/webhook-receiver.ts";
import type { ClientRecord } from "./client.ts";

export interface TokenOutput {
  readonly ids: readonly number[];
  readonly text: string;
}

/** Everything that is known about a job after the run. */
export interface JobEvidence {
  readonly client: ClientRecord;
  /** All events, read again from the first one after the run. */
  readonly log: readonly JobEvent[];
  readonly job: Job;
  /** Output of the same request without faults. */
  readonly expected: TokenOutput;
  readonly webhooks: readonly ChaosWebhook[];
}

export interface ChaosWebhook extends ReceivedWebhook {
  /** The job's state, read before the webhook was answered; null if the edge did not answer. */
  readonly stateOnArrival: string | null;
  readonly wasAccepted: boolean;
}

export const outputOf = (events: readonly JobEvent[]): TokenOutput => ({
  ids: events.flatMap((event) => (event.type === "tokens" ? event.ids : [])),
  text: events.map((event) => (event.type === "tokens" ? event.text : "")).join(""),
});

const GUARANTEES: Readonly<Record<string, (evidence: JobEvidence) => boolean>> = {
  "the client received every event once, in order": ({ client }) =>
    client.events.every(({ seq }, i) => seq === i + 1),
  "the client received exactly the events of the log": ({ client, log }) =>
    JSON.stringify(client.events) === JSON.stringify(log),
  "the log has one terminal event, at its end": ({ log }) =>
    log.filter(isEnd).length === 1 && isEnd(log.at(-1)!),
  "attempts count from 1": ({ log }) =>
    log
      .flatMap((event) => (event.type === "started" ? event.attempt : []))
      .every((attempt, i) => attempt === i + 1),
  "it succeeded, or was cancelled or expired as requested": ({ job, client }) =>
    job.state === "succeeded" ||
    (job.state === "cancelled" && client.hasCancelled) ||
    (job.state === "expired" && client.plan.input.deadline !== undefined),
  "its tokens are those of a run without faults": ({ job, log, expected }) => {
    const { ids } = outputOf(log);
    const isComplete = job.state !== "succeeded" || ids.length === expected.ids.length;
    return isComplete && ids.every((id, i) => id === expected.ids[i]);
  },
  "its text is that of a run without faults": ({ job, expected }) =>
    job.state === "succeeded"
      ? job.output.text === expected.text
      : expected.text.startsWith(job.output.text),
  "its record, its log and its usage agree": ({ job, log }) => {
    const { ids, text } = outputOf(log);
    const sameEnd = job.state === log.at(-1)?.type && job.output.text === text;
    return sameEnd && job.usage?.completion_tokens === ids.length;
  },
  "its webhook arrived, if one was requested": ({ job, webhooks }) =>
    webhooks.some(({ wasAccepted }) => wasAccepted) === (job.webhook !== null),
  "all its webhooks have the same id and body, and are signed": ({ webhooks }) =>
    new Set(webhooks.map(({ id, body }) => `${id} ${body}`)).size <= 1 &&
    webhooks.every(({ verified }) => verified),
  "no webhook came before the end could be read": ({ webhooks }) =>
    webhooks.every(
      ({ stateOnArrival, job }) =>
        (stateOnArrival === null || stateOnArrival === job.state) && isTerminal(job.state),
    ),
};

export interface GuaranteeResult {
  readonly guarantee: string;
  /** Number of jobs for which it was kept. */
  readonly kept: number;
  /** Ids of the jobs for which it was broken. */
  readonly broken: readonly string[];
}

export function checkGuarantees(jobs: readonly JobEvidence[]): GuaranteeResult[] {
  return Object.entries(GUARANTEES).map(([guarantee, isKept]) => {
    const broken = jobs.filter((evidence) => !isKept(evidence)).map(({ job }) => job.id);
    return { guarantee, kept: jobs.length - broken.length, broken };
  });
}
