/** Chats that ended, read again from their jobs, without the details of their tokens: those are in the logs, up to 12 MB each. */
import type { ChatCompletion } from "../../shared/api/chat-and-completions.ts";
import type { Outcome } from "../../shared/api/job-events.ts";
import { choiceIds } from "../../shared/jobs/ids.ts";
import type { JobRecord } from "../../shared/jobs/record.ts";
import { chatReplies } from "../../shared/protocols/chat-replies.ts";
import { wholeReply, type EndedChoice } from "../../shared/protocols/whole-reply.ts";
import type { AppContext } from "../http/context.ts";

/** Characters of prompts and outputs that are read for one page of chats. */
const PAGE_CHARS_MAX = 8_000_000;

/**
 * The chats of a page, those of deleted jobs left out.
 * @param ids of their first jobs
 * @returns the chats, and how many of the ids they come from: a page of long chats ends earlier
 */
export async function readChats(c: AppContext, ids: readonly string[]) {
  const chats: ChatCompletion[] = [];
  let chars = 0;
  let count = 0;
  for (const id of ids) {
    if (chars > PAGE_CHARS_MAX) break;
    count++;
    const first = await c.var.stores.jobs.record(id);
    const chat = first && (await readChat(c, first));
    if (!chat) continue;
    chats.push(chat);
    chars += JSON.stringify(first.generation.input).length + JSON.stringify(chat).length;
  }
  return { chats, count };
}

/** The chat of a first job; null unless all its choices succeeded. */
export async function readChat(c: AppContext, first: JobRecord): Promise<ChatCompletion | null> {
  const choices: EndedChoice[] = [];
  for (const id of choiceIds(first)) {
    const job = id === first.id ? first : await c.var.stores.jobs.record(id);
    if (job?.state !== "succeeded") return null;
    const { finish_reason, usage, error } = job.outcome as Outcome;
    const end = { type: job.state, finish_reason, usage, error };
    choices.push({ output: { text: job.text, input: job.generation.input }, end });
  }
  const chat = wholeReply(chatReplies(first), choices, choices.length);
  return { ...chat, metadata: first.metadata };
}
