/**
 * Runs one job that this worker has claimed: reads from its event log which tokens exist already, generates the rest, logs every
 * token, and ends the job. It knows the job store and the engine's client, not the queue.
 */
import type { TerminalState } from "../../shared/api/jobs.ts";
import type { Outcome } from "../../shared/api/job-events.ts";
import type { Usage } from "../../shared/api/job-parts.ts";
import { isTerminal } from "../../shared/api/jobs.ts";
import { fenceOf } from "../../shared/jobs/fence.ts";
import type { JobRecord } from "../../shared/jobs/record.ts";
import { parseOutput } from "../../shared/tools/parser.ts";
import type { ClaimedJob, EndingJob } from "../../shared/jobs/leases.ts";
import type { JobStore, Progress } from "../../shared/jobs/store.ts";
import type { AttemptWatch } from "../telemetry/attempt-watch.ts";
import type { EngineClient } from "../engine-client/client.ts";
import {
  NO_USAGE,
  type RemoteCounts,
  type RunEndEvent,
  totalDrafts,
} from "../engine-client/messages.ts";
import type { JobRun } from "./job-run.ts";
import { TokenLog } from "./token-log.ts";

export interface RunJobDeps {
  readonly store: JobStore;
  readonly engine: Pick<EngineClient, "run">;
  /** A job fails after this many attempts in a row whose worker was lost before it generated a token. */
  readonly attemptsMax: number;
}

type JobWatch = Pick<
  AttemptWatch,
  "jobClaimed" | "prefillStarted" | "tokenGenerated" | "jobEnded" | "jobFenced"
>;

const DEADLINE_PASSED = "The job's deadline passed";
/** The longest time of a timer, about 24 days. */
const TIMER_MS_MAX = 2 ** 31 - 1;
const NO_PROGRESS: Progress = { ids: [], text: "" };

/**
 * Runs a job until it has ended or another worker has claimed it.
 * @param run stops the attempt early, and learns of its first token
 * @param watch writes the attempt's log lines, spans and metrics
 * @returns the ended job's record, or null if the job was deleted or another worker runs it now
 * @throws Error if the engine or Redis fails: the tokens in the log are kept, and the job can be tried again
 */
export async function runJob(
  deps: RunJobDeps,
  claim: ClaimedJob,
  run: JobRun,
  watch?: JobWatch,
): Promise<JobRecord | null> {
  await generateRest(deps, claim, run, watch);
  const after = await deps.store.record(claim.record.id);
  return after && isTerminal(after.state) ? after : null;
}

/** Ends a job that must not run any more. @returns the ended job's record, or null if it has changed meanwhile */
export function endUnrun(
  { store, attemptsMax }: Pick<RunJobDeps, "store" | "attemptsMax">,
  { status, record }: EndingJob,
): Promise<JobRecord | null> {
  if (status === "late") return store.endWithError(record, "expired", expiryError(record));
  const message = `Each of the last ${attemptsMax} workers of this job was lost before it generated another token`;
  return store.endWithError(record, "failed", { code: "worker_lost", message });
}

/** The error of an expired job. The message says whether its `start_by` or its deadline has passed. */
export function expiryError({
  startByMs,
  deadlineMs,
  attempt,
}: JobRecord): NonNullable<Outcome["error"]> {
  const isUnstarted = startByMs !== null && startByMs < deadlineMs && attempt === 0;
  const message = isUnstarted ? "The job did not start by start_by" : DEADLINE_PASSED;
  return { code: "deadline_exceeded", message };
}

/** Generates the tokens that are not in the event log yet, and ends the job, unless another worker claims it meanwhile. */
async function generateRest(
  deps: RunJobDeps,
  claim: ClaimedJob,
  run: JobRun,
  watch?: JobWatch,
): Promise<void> {
  const { store } = deps;
  const { record } = claim;
  const { id, deadlineMs, claimedAtMs } = record;
  const fence = fenceOf(record);
  watch?.jobClaimed(claim);
  const resume = record.tokens === 0 ? NO_PROGRESS : await store.progress(id);
  const append = async (at: number, tokens: Progress, baseCalls: number) => {
    const reply = await store.appendTokens(id, fence, at, tokens, baseCalls);
    const before = log.outputCount;
    if (reply !== "fenced") run.onLogged(before, before + tokens.ids.length);
    return reply;
  };
  const log = new TokenLog(resume, append, (reason) =>
    run.stop(reason === "cancel" ? "cancelled" : "fenced"),
  );
  // Both times are Redis' own. This process only measures how long the rest is.
  const remainingMs = deadlineMs - (claimedAtMs ?? deadlineMs);
  if (record.cancelRequested) run.stop("cancelled");
  else if (remainingMs <= 0) run.stop("expired");
  const deadline = setTimeout(() => run.stop("expired"), Math.min(remainingMs, TIMER_MS_MAX));
  const ending = runEngine(deps, record, { run, log, resume, watch });
  const end = await ending.finally(() => clearTimeout(deadline));
  run.phase = "ending";
  await log.flush();
  const reason = run.stopReason;
  if (reason === "fenced") return watch?.jobFenced();
  const { state, outcome } = runOutcome(withToolCalls(end, record, log.text), reason, {
    completionTokens: log.outputCount,
    // Only this attempt can have logged tokens since it was claimed.
    baseCalls: record.baseCalls + end.usage.baseCalls,
  });
  watch?.jobEnded(state, outcome);
  await store.finish(id, fence, state, log.text, outcome);
}

interface EngineRun {
  readonly run: JobRun;
  readonly log: TokenLog;
  /** The log of earlier attempts. */
  readonly resume: Progress;
  readonly watch: JobWatch | undefined;
}

/** Logs the run's tokens. @returns its end; one without a finish if it was stopped before the engine ended it */
async function runEngine(
  { store, engine }: RunJobDeps,
  record: JobRecord,
  { run, log, resume, watch }: EngineRun,
): Promise<RunEndEvent> {
  const { id, tenant, generation, createdAtMs: submittedAtMs } = record;
  let counted = record.promptTokens;
  let baseCalls = 0;
  if (run.stopReason === null) {
    const { ids, prompt_logprobs: { length: promptLogged } = [] } = resume;
    for await (const event of run.until(
      engine.run(tenant, generation, ids, run.signal, { promptLogged, submittedAtMs }),
    )) {
      if (event.type === "token") {
        run.phase = "decode";
        run.tokens++;
        if (!event.detail?.prompt) watch?.tokenGenerated();
        log.push(event.token, event.text, event.detail, event.baseCalls);
        baseCalls = event.baseCalls;
      } else if (event.type === "prefill") {
        run.phase = "prefill";
        watch?.prefillStarted();
        counted = event.promptTokens;
        const isHeld = await store.recordPrefill(id, fenceOf(record), counted);
        if (!isHeld) run.stop("fenced");
      } else {
        // A run that ends before its prompt is tokenized has no count; an earlier attempt may have stored it.
        const usage = { ...event.usage, promptTokens: event.usage.promptTokens || counted };
        return { ...event, usage };
      }
    }
  }
  return { type: "end", finish: null, usage: { ...NO_USAGE, promptTokens: counted, baseCalls } };
}

/** The end of a run, whose finish is "tool_calls" if the output that it completes has calls of functions. One that a stop string ended may be incomplete. */
function withToolCalls(
  end: RunEndEvent,
  { generation: { tools } }: JobRecord,
  text: string,
): RunEndEvent {
  if (end.type !== "end" || end.finish !== "stop" || !tools || end.stopString !== undefined) {
    return end;
  }
  return parseOutput(tools, text).calls.length > 0 ? { ...end, finish: "tool_calls" } : end;
}

function remoteUsage(counts: RemoteCounts) {
  return {
    calls: counts.calls,
    asked_again: counts.asked,
    certified_tokens: counts.certified,
    bounded_tokens: counts.bounded,
    base_alone_tokens: counts.fellBack,
    error_max: counts.errorMax,
    bytes: counts.bytes,
  };
}

/** The job's state and outcome. A run that generated its last token has succeeded, even if it was cancelled meanwhile. */
function runOutcome(
  end: RunEndEvent,
  stopReason: TerminalState | null,
  {
    completionTokens,
    baseCalls,
  }: { readonly completionTokens: number; readonly baseCalls: number },
): { state: TerminalState; outcome: Outcome } {
  const { promptTokens, cachedTokens, drafts, remote } = end.usage;
  const { drafted, accepted } = totalDrafts(drafts);
  const usage: Usage = {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    prompt_tokens_details: { cached_tokens: cachedTokens },
    speculation: { drafted_tokens: drafted, accepted_tokens: accepted },
    base_calls: baseCalls,
    ...(remote && { remote_base: remoteUsage(remote) }),
  };
  if (end.type === "failed") {
    const { code, message } = end;
    return { state: "failed", outcome: { finish_reason: null, usage, error: { code, message } } };
  }
  if (end.finish) {
    const { finish: finish_reason, stopString } = end;
    const stop = stopString === undefined ? {} : { stop_sequence: stopString };
    return { state: "succeeded", outcome: { finish_reason, ...stop, usage, error: null } };
  }
  const isExpired = stopReason === "expired";
  const error = isExpired
    ? ({ code: "deadline_exceeded", message: DEADLINE_PASSED } as const)
    : null;
  return { state: stopReason ?? "succeeded", outcome: { finish_reason: null, usage, error } };
}
