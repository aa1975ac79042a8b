/** `/v1/messages`: jobs in the protocol of Anthropic's Messages API. Errors below this path have its shape (middleware/errors.ts). */
import { MessageObject, MessageRequest, MessageStreamEvent } from "../../shared/api/messages.ts";
import { fromMessages, toMessage } from "../../shared/protocols/messages.ts";
import { ANSWER, awaitChoice } from "../answers/answer.ts";
import { streamMessage } from "../answers/message-stream.ts";
import { jsonBody, route, type Route } from "../http/route.ts";
import { submit, SUBMISSION } from "../requests/submit.ts";
import type { RouteSettings } from "./settings.ts";

const EXAMPLE = {
  model: "atlas-qa",
  max_tokens: 16,
  messages: [{ role: "user", content: "What is the capital of France?" }],
};

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
        uses: [...SUBMISSION, ANSWER],
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
        const { output, end } = await awaitChoice(c, job.id, c.req.raw.signal);
        return json(200, toMessage(job, output.text, end));
      },
    ),
  ];
}
