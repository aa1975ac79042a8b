/**
 * `/v1/chat/completions`: jobs in the protocol of OpenAI's Chat Completions API. Every chat is kept as a job, whether or not
 * `store` is set, so its answer can be read again.
 */
import {
  ChatCompletion,
  ChatCompletionChunk,
  ChatDeletion,
  ChatRequest,
} from "../../shared/api/chat-and-completions.ts";
import { choiceIds } from "../../shared/jobs/ids.ts";
import { chatReplies } from "../../shared/protocols/chat-replies.ts";
import { fromChat } from "../../shared/protocols/index.ts";
import { ANSWER, answerOptions, streamAnswer, wholeAnswer } from "../answers/answer.ts";
import { jsonBody, route, type Route } from "../http/route.ts";
import {
  CURSOR,
  isReadToEnd,
  JOB_ID,
  readCursor,
  requireJob,
  STREAM,
  STREAM_READ_TO_END,
  wantsStream,
} from "../requests/job-access.ts";
import { submit, SUBMISSION } from "../requests/submit.ts";
import type { RouteSettings } from "./settings.ts";

const EXAMPLE = {
  model: "atlas-qa",
  messages: [{ role: "user", content: "What is the capital of France?" }],
  max_tokens: 16,
};

const COMPLETION = {
  description: "The answer; with `stream`, its chunks.",
  schema: ChatCompletion,
  events: { data: ChatCompletionChunk, endsWithDone: true },
};

export function chatRoutes({ deadlineSeconds, log }: RouteSettings): Route[] {
  return [
    route(
      {
        method: "POST",
        path: "/v1/chat/completions",
        operationId: "createChatCompletion",
        tag: "OpenAI",
        summary: "Answer a chat",
        description: "The reply waits until the answer is finished, or streams it.",
        access: { scope: "jobs:write" },
        body: jsonBody(ChatRequest, EXAMPLE),
        uses: [...SUBMISSION, ANSWER],
        replies: { 200: COMPLETION },
      },
      async (c, { body, json }) => {
        const job = await submit(c, fromChat(body), deadlineSeconds);
        const replies = chatReplies(job);
        const options = answerOptions(body, log);
        if (options.stream) return streamAnswer(c, job, replies, options);
        return json(200, await wholeAnswer(c, job, replies, options));
      },
    ),
    route(
      {
        method: "GET",
        path: "/v1/chat/completions/{id}",
        operationId: "getChatCompletion",
        tag: "OpenAI",
        summary: "Read the answer of a chat again",
        description: "The reply waits until the answer is finished, or streams it.",
        access: { scope: "jobs:read" },
        params: { id: JOB_ID },
        uses: [STREAM, CURSOR, ANSWER],
        replies: { 200: COMPLETION, 204: STREAM_READ_TO_END },
      },
      async (c, { params, json }) => {
        const job = await requireJob(c, params.id);
        const stream = wantsStream(c);
        const n = job.requestOptions.choices ?? 1;
        const cursor = readCursor(c) ?? 0;
        const after = stream && n === 1 ? cursor : 0;
        if (isReadToEnd(c, after, job)) return c.body(null, 204);
        const replies = chatReplies(job);
        if (!stream) return json(200, await wholeAnswer(c, job, replies, { n }));
        return streamAnswer(c, job, replies, { stream, includeUsage: false, n, after, log });
      },
    ),
    route(
      {
        method: "DELETE",
        path: "/v1/chat/completions/{id}",
        operationId: "deleteChatCompletion",
        tag: "OpenAI",
        summary: "Delete the jobs of a chat",
        description: "Jobs that have not ended are cancelled. All choices of the chat are deleted.",
        access: { scope: "jobs:write" },
        params: { id: JOB_ID },
        replies: { 200: { description: "The jobs are deleted.", schema: ChatDeletion } },
      },
      async (c, { params, json }) => {
        const job = await requireJob(c, params.id);
        await Promise.all(choiceIds(job).map((id) => c.var.stores.deleteJob(id)));
        const id = `chatcmpl-${job.id}`;
        return json(200, { id, object: "chat.completion.deleted", deleted: true });
      },
    ),
  ];
}
