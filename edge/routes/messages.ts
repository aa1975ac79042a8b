/** `/v1/messages`: jobs in the protocol of Anthropic's Messages API. Errors below this path have its shape (middleware/errors.ts). */
import {
  MessageObject,
  MessageRequest,
  MessageStreamEvent,
  MessageTokens,
} from "../../shared/api/messages.ts";
import { fromMessages, toMessage } from "../../shared/protocols/messages.ts";
import { ANSWER, awaitChoice } from "../answers/answer.ts";
import { streamMessage } from "../answers/message-stream.ts";
import { MESSAGE_HEADERS } from "../http/reply-headers.ts";
import { jsonBody, route, type ContractPart, type Route } from "../http/route.ts";
import { submit, SUBMISSION } from "../requests/submit.ts";
import { countPromptTokens, TOKENIZER } from "../requests/tokenizer.ts";
import type { RouteSettings } from "./settings.ts";

const EXAMPLE = {
  model: "atlas-qa",
  max_tokens: 16,
  messages: [{ role: "user", content: "What is the capital of France?" }],
};

/** Anthropic's clients read the request's id from this header. Errors have it too (middleware/errors.ts). */
const REQUEST_ID: ContractPart = { replyHeaders: MESSAGE_HEADERS };

export function messageRoutes({ deadlineSeconds, log }: RouteSettings): Route[] {
  return [
    route(
      {
        method: "POST",
        path: "/v1/messages",
        operationId: "createMessage",
        tag: "Anthropic",
        summary: "Answer a conversation",
        description: "The reply waits until the message is finished, or streams it.",
        access: { scope: "jobs:write" },
        body: jsonBody(MessageRequest, EXAMPLE),
        uses: [...SUBMISSION, ANSWER, REQUEST_ID],
        replies: {
          200: {
            description: "The message; with `stream`, its events.",
            schema: MessageObject,
            events: { data: MessageStreamEvent },
          },
        },
      },
      async (c, { body, json }) => {
        c.header("request-id", c.var.requestId);
        const job = await submit(c, fromMessages(body), deadlineSeconds);
        if (body.stream) return streamMessage(c, job, log);
        const { output, end } = await awaitChoice(c, job.id, c.req.raw.signal, {
          prompt: "messages",
        });
        return json(200, toMessage(job, output.text, end));
      },
    ),
    route(
      {
        method: "POST",
        path: "/v1/messages/count_tokens",
        operationId: "countMessageTokens",
        tag: "Anthropic",
        summary: "Count the tokens of a message's input",
        description:
          "It takes the fields of a message, and counts the tokens of the base's prompt with its functions. No job is created; the call counts as one request of the API key.",
        access: { scope: "jobs:write" },
        body: jsonBody(MessageRequest, EXAMPLE),
        uses: [TOKENIZER, REQUEST_ID],
        replies: { 200: { description: "The count.", schema: MessageTokens } },
      },
      async (c, { body, json }) => {
        c.header("request-id", c.var.requestId);
        return json(200, { input_tokens: await countPromptTokens(c, fromMessages(body)) });
      },
    ),
  ];
}
