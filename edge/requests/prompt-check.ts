/**
 * A streamed reply waits a second for its start, so that a prompt that does not fit gets the status of its error. While all slots are
 * busy, no worker would look at the prompt in this time. So a worker is asked to check it (shared/workers/prompt-checks.ts).
 */
import type { JobRecord } from "../../shared/jobs/record.ts";
import type { AnsweredJob } from "../../shared/protocols/chat-replies.ts";
import type { AppContext } from "../http/context.ts";

/** A job that a free slot takes is usually taken by then. */
const WAIT_MS = 100;

/**
 * Calls `start`, and asks for checks of the prompts if it takes long.
 * @param jobIds a job of each prompt
 */
export async function startChecked<T>(
  c: AppContext,
  job: AnsweredJob,
  jobIds: readonly string[],
  start: () => Promise<T>,
): Promise<T> {
  const { stores } = c.var;
  const check = () => stores.besideLogs(() => checkPrompts(c, job, jobIds)).catch(() => {});
  const timer = setTimeout(() => void check(), WAIT_MS);
  try {
    return await start();
  } finally {
    clearTimeout(timer);
  }
}

async function checkPrompts(
  { var: { stores, principal } }: AppContext,
  { generation }: AnsweredJob,
  jobIds: readonly string[],
): Promise<void> {
  // Of several prompts only the first one is known here.
  if (jobIds.length === 1 && (await certainlyFits(stores.fleet, generation))) return;
  await stores.checkPrompts({ generation, tenant: principal.tenant }, jobIds);
}

/** Bytes of a prompt for each token of the context below which it certainly fits: a token has a byte, and a template adds some. */
const BYTES_PER_TOKEN = 0.5;

async function certainlyFits(
  fleet: AppContext["var"]["stores"]["fleet"],
  { model, pairs = [], input, tools }: JobRecord["generation"],
): Promise<boolean> {
  const ids = [model, ...pairs.map((pair) => pair.model)];
  const cards = await Promise.all(ids.map((id) => fleet.model(id)));
  const contextTokens = Math.min(...cards.map((card) => card?.contextTokens ?? 0));
  const { length } = new TextEncoder().encode(JSON.stringify([input, tools?.functions]));
  return length <= BYTES_PER_TOKEN * contextTokens;
}
