/** What must be so after all that happened, seen from outside: each violation is one line. */
import { isEnd, isTerminal, type Job, type JobEvent } from "../../shared/contract.ts";
import type { Received } from "../../infra/webhook-receiver.ts";
import type { Seen } from "./client.ts";

/** What an undisturbed run of a request gave. */
export interface Reference {
  readonly ids: readonly number[];
  readonly text: string;
}

/** A job as everybody tells of it afterwards. */
export interface Story {
  readonly seen: Seen;
  /** Read anew, from the first event. */
  readonly log: readonly JobEvent[];
  readonly job: Job;
  readonly reference: Reference;
  readonly webhooks: readonly Hook[];
}

export interface Hook extends Received {
  /** The job's state as it was read before the webhook was answered; null where the edge did not answer. */
  readonly stateThen: string | null;
  readonly wasAccepted: boolean;
}

export const referenceOf = (events: readonly JobEvent[]): Reference => ({
  ids: events.flatMap((event) => (event.type === "tokens" ? event.ids : [])),
  text: events.map((event) => (event.type === "tokens" ? event.text : "")).join(""),
});

/** The promises, and who broke which. */
const PROMISES: Readonly<Record<string, (story: Story) => boolean>> = {
  "its client saw every event once, in order": ({ seen }) =>
    seen.events.every(({ seq }, i) => seq === i + 1),
  "what its client saw is the log": ({ seen, log }) =>
    JSON.stringify(seen.events) === JSON.stringify(log),
  "the log has one end, its last event": ({ log }) =>
    log.filter(isEnd).length === 1 && isEnd(log.at(-1)!),
  "attempts count from 1": ({ log }) =>
    log
      .flatMap((event) => (event.type === "started" ? event.attempt : []))
      .every((attempt, i) => attempt === i + 1),
  "it ended as it may": ({ job, seen }) =>
    job.state === "succeeded" ||
    (job.state === "cancelled" && seen.hasCancelled) ||
    (job.state === "expired" && seen.plan.input.deadline !== undefined),
  "its tokens are those of an undisturbed run": ({ job, log, reference }) => {
    const { ids } = referenceOf(log);
    const whole = job.state !== "succeeded" || ids.length === reference.ids.length;
    return whole && ids.every((id, i) => id === reference.ids[i]);
  },
  "its text is that of an undisturbed run": ({ job, reference }) =>
    job.state === "succeeded"
      ? job.output.text === reference.text
      : reference.text.startsWith(job.output.text),
  "its record, its log and its usage agree": ({ job, log }) => {
    const { ids, text } = referenceOf(log);
    const sameEnd = job.state === log.at(-1)?.type && job.output.text === text;
    return sameEnd && job.usage?.completion_tokens === ids.length;
  },
  "its webhook arrived, if it asked for one": ({ job, webhooks }) =>
    webhooks.some((hook) => hook.wasAccepted) === (job.webhook !== null),
  "its webhooks have one id and one body, signed": ({ webhooks }) =>
    new Set(webhooks.map(({ id, body }) => `${id} ${body}`)).size <= 1 &&
    webhooks.every(({ verified }) => verified),
  "no webhook came before its end could be read": ({ webhooks }) =>
    webhooks.every(
      ({ stateThen, job }) =>
        (stateThen === null || stateThen === job.state) && isTerminal(job.state),
    ),
};

export interface Verdict {
  readonly promise: string;
  readonly kept: number;
  /** Ids of jobs for which it was broken. */
  readonly broken: readonly string[];
}

export function judge(stories: readonly Story[]): Verdict[] {
  return Object.entries(PROMISES).map(([promise, isKept]) => {
    const broken = stories.filter((story) => !isKept(story)).map(({ job }) => job.id);
    return { promise, kept: stories.length - broken.length, broken };
  });
}
