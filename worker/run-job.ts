/**
 * One job from claim to end: take it up (fencing any earlier worker), read from the log how far it got, generate the
 * rest, log every token, end it. It knows the store and the engine, not BullMQ.
 */
import type { Outcome, TerminalState, Usage } from "../shared/contract.ts";
import { isTerminal } from "../shared/contract.ts";
import type { Permit } from "../shared/generation-queue.ts";
import type { JobRecord } from "../shared/job.ts";
import type { Claimed } from "../shared/claim.ts";
import type { JobStore } from "../shared/job-store.ts";
import type { AttemptWatch } from "./attempt-watch.ts";
import { allDrafts } from "./decode/draft.ts";
import type { EngineClient } from "./engine/client.ts";
import { NOTHING_USED, type EndEvent } from "./engine/messages.ts";
import { TokenLog } from "./token-log.ts";

export interface RunJobDeps {
  readonly store: JobStore;
  readonly engine: Pick<EngineClient, "run">;
  readonly attemptsMax: number;
}

type Watch = Pick<AttemptWatch, "claimed" | "prefill" | "token" | "ended" | "fenced">;

/**
 * Runs a job as far as this worker may.
 * @param permit by which it may take the job up
 * @param watch told how the attempt goes
 * @returns the ended job's record, or null if there is none or another worker has it now
 */
export async function runJob(
  deps: RunJobDeps,
  jobId: string,
  permit?: Permit,
  watch?: Watch,
): Promise<JobRecord | null> {
  const { store, attemptsMax } = deps;
  const claim = await store.claim(jobId, attemptsMax, permit);
  if (claim.status === "missing") return null;
  const record = await store.record(jobId);
  if (claim.status === "claimed" && record) await generateRest(deps, record, claim, watch);
  if (claim.status === "late" && record) return store.giveUp(record, "expired", lateError(record));
  if (claim.status === "exhausted" && record) {
    const message = `${attemptsMax} workers in a row were lost before it had another token`;
    return store.giveUp(record, "failed", { code: "worker_lost", message });
  }
  const after = await store.record(jobId);
  return after && isTerminal(after.state) ? after : null;
}

/** Why a job is expired: whichever of its times has passed. */
export function lateError({ startByMs, attempt }: JobRecord): NonNullable<Outcome["error"]> {
  const isUnstarted = startByMs !== null && attempt === 0 && startByMs <= Date.now();
  const message = isUnstarted ? "the job did not start by start_by" : "the job's deadline passed";
  return { code: "deadline_exceeded", message };
}

async function generateRest(
  { store, engine }: RunJobDeps,
  record: JobRecord,
  claim: Claimed,
  watch?: Watch,
): Promise<void> {
  const { attempt } = claim;
  watch?.claimed(record, claim);
  const resume = await store.progress(record.id);
  const stop = new AbortController();
  let why: TerminalState | "fenced" = "succeeded";
  const stopFor = (reason: TerminalState | "fenced") => {
    why = reason;
    stop.abort();
  };
  const log = new TokenLog(
    resume,
    (at, tokens) => store.appendTokens(record.id, attempt, at, tokens),
    (reason) => stopFor(reason === "cancel" ? "cancelled" : "fenced"),
  );
  const remainingMs = record.deadlineMs - Date.now();
  const deadline = setTimeout(() => stopFor("expired"), Math.max(0, remainingMs));
  const used = { ...NOTHING_USED, promptTokens: record.promptTokens };
  let end: EndEvent = { type: "end", finish: null, used };
  try {
    if (record.cancelRequested) stopFor("cancelled");
    else if (remainingMs <= 0) stopFor("expired");
    else {
      const { tenant, generation } = record;
      for await (const event of engine.run(tenant, generation, resume.ids, stop.signal)) {
        if (event.type === "token") {
          watch?.token();
          log.push(event.token, event.text, event.report);
        } else if (event.type === "prefill") {
          watch?.prefill();
          await store.prefilling(record.id, attempt, event.promptTokens);
        } else end = event;
      }
    }
  } finally {
    clearTimeout(deadline);
  }
  await log.drained();
  if ((why as string) === "fenced") return watch?.fenced();
  const { state, outcome } = outcomeOf(end, why, log.tokenCount);
  watch?.ended(state, outcome);
  await store.finish(record.id, attempt, state, log.text, outcome);
}

/** What the end of a run means for the job. A run that finished by itself succeeded, whatever was asked meanwhile. */
function outcomeOf(
  end: EndEvent,
  why: TerminalState,
  completionTokens: number,
): { state: TerminalState; outcome: Outcome } {
  const { promptTokens, cachedTokens, drafts } = end.used;
  const { drafted, accepted } = allDrafts(drafts);
  const usage: Usage = {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    prompt_tokens_details: { cached_tokens: cachedTokens },
    speculation: { drafted_tokens: drafted, accepted_tokens: accepted },
  };
  if (end.type === "failed") {
    const { code, message } = end;
    return { state: "failed", outcome: { finish_reason: null, usage, error: { code, message } } };
  }
  if (end.finish) {
    return { state: "succeeded", outcome: { finish_reason: end.finish, usage, error: null } };
  }
  const error =
    why === "expired"
      ? ({ code: "deadline_exceeded", message: "the job's deadline passed" } as const)
      : null;
  return { state: why, outcome: { finish_reason: null, usage, error } };
}
