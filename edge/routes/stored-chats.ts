/** `/v1/chat/completions` as a collection, in the protocol of OpenAI's API: lists of chats, their messages, their metadata. */
import {
  ChatCompletion,
  ChatCompletionPage,
  ChatMessagePage,
} from "../../shared/api/chat-and-completions.ts";
import { AppError } from "../../shared/api/errors.ts";
import { JOB_FILTER } from "../../shared/api/job-lists.ts";
import { MetadataRequest } from "../../shared/api/reruns.ts";
import { choiceIds, messageId } from "../../shared/jobs/ids.ts";
import type { ChatMessage, Input } from "../../shared/jobs/record.ts";
import { readChat, readChats } from "../answers/stored-chats.ts";
import { OLDEST_FIRST_QUERY, pageReply } from "../http/page.ts";
import { jsonBody, route, type Route } from "../http/route.ts";
import { requireScope } from "../middleware/authorize.ts";
import { JOB_ID, replaceMetadata, requireJob } from "../requests/job-access.ts";
import { listedIds, listPage, METADATA_FILTER, metadataFilter } from "../requests/job-lists.ts";

export function storedChatRoutes(): Route[] {
  return [
    route(
      {
        method: "GET",
        path: "/v1/chat/completions",
        operationId: "listChatCompletions",
        tag: "OpenAI",
        summary: "List chats",
        description:
          "The chats of the tenant that succeeded and can still be read, without those of batches and with `store: false`. Log-probabilities and traces are left out: read the chat for them.",
        access: { scope: "jobs:read" },
        query: { ...OLDEST_FIRST_QUERY, model: JOB_FILTER.model },
        uses: [METADATA_FILTER],
        replies: { 200: { description: "One page of chats.", schema: ChatCompletionPage } },
      },
      async (c, { query, json }) => {
        const filter = { model: query.model, metadata: metadataFilter(c), isChat: true };
        const found = await listedIds(c, filter, query);
        const { chats, count } = await readChats(c, found.ids);
        if (count === found.ids.length) return json(200, listPage(chats, found, query.limit));
        const last = { id: found.ids[count - 1]!, atMs: 0 };
        const rest = { ids: found.ids.slice(0, count), last, hasMore: true };
        return json(200, listPage(chats, rest, count));
      },
    ),
    route(
      {
        method: "GET",
        path: "/v1/chat/completions/{id}/messages",
        operationId: "listChatCompletionMessages",
        tag: "OpenAI",
        summary: "List the messages that a chat continues",
        description: "The messages of its request, without the answer.",
        access: { scope: "jobs:read" },
        params: { id: JOB_ID },
        query: OLDEST_FIRST_QUERY,
        replies: { 200: { description: "One page of messages.", schema: ChatMessagePage } },
      },
      async (c, { params, query, json }) => {
        const { id, generation } = await requireJob(c, params.id);
        const { input } = generation;
        const items = messagesOf(input).map((message, i) => ({
          id: `${messageId(id)}-in-${i}`,
          ...toChatMessage(message),
        }));
        return json(200, pageReply(items.toReversed(), query));
      },
    ),
    route(
      {
        method: "POST",
        path: "/v1/chat/completions/{id}",
        operationId: "updateChatCompletion",
        tag: "OpenAI",
        summary: "Replace the metadata of a chat",
        description:
          "All choices of the chat get it. The chat must have succeeded. The key also needs the scope `jobs:read`.",
        access: { scope: "jobs:write" },
        params: { id: JOB_ID },
        body: jsonBody(MetadataRequest, { metadata: { reviewed: "yes" } }),
        replies: { 200: { description: "The chat.", schema: ChatCompletion } },
        errors: ["rate_limit_exceeded"],
      },
      async (c, { params, body, json }) => {
        requireScope(c, "jobs:read");
        const job = await requireJob(c, params.id);
        if ((await readChat(c, job)) === null) throw notSucceeded();
        await replaceMetadata(c, choiceIds(job), body.metadata ?? {});
        const chat = await readChat(c, await requireJob(c, job.id));
        if (chat === null) throw notSucceeded();
        return json(200, chat);
      },
    ),
  ];
}

/** A prompt of token ids has none: only workers can convert ids to text. */
function messagesOf(input: Input): readonly ChatMessage[] {
  if (input.kind === "chat") return input.messages;
  return input.kind === "text" ? [{ role: "user", content: input.text }] : [];
}

function toChatMessage({ role, content, toolCalls = [], toolCallId }: ChatMessage) {
  const calls = toolCalls.map(({ id, ...called }) => ({
    id,
    type: "function" as const,
    function: called,
  }));
  return {
    role,
    content,
    ...(calls.length > 0 && { tool_calls: calls }),
    ...(toolCallId !== undefined && { tool_call_id: toolCallId }),
  };
}

function notSucceeded(): AppError {
  return new AppError("not_found", "There is no such chat, or it has not succeeded");
}
