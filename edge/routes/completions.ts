/** `/v1/completions`: jobs in the protocol of OpenAI's older Completions API. A prompt is used without a chat template. */
import { CompletionRequest, TextCompletion } from "../../shared/api/chat-and-completions.ts";
import { completionReplies } from "../../shared/protocols/chat-replies.ts";
import { fromCompletion } from "../../shared/protocols/index.ts";
import { ANSWER, answerOptions, streamAnswer, wholeAnswer } from "../answers/answer.ts";
import { jsonBody, route, type Route } from "../http/route.ts";
import { submit, SUBMISSION } from "../requests/submit.ts";
import type { RouteSettings } from "./settings.ts";

const EXAMPLE = { model: "atlas-qa", prompt: "the capital of france", max_tokens: 16 };

export function completionRoutes({ deadlineSeconds, log }: RouteSettings): Route[] {
  return [
    route(
      {
        method: "POST",
        path: "/v1/completions",
        operationId: "createCompletion",
        tag: "OpenAI",
        summary: "Complete a prompt",
        description: "The reply waits until the completion is finished, or streams it.",
        access: { scope: "jobs:write" },
        body: jsonBody(CompletionRequest, EXAMPLE),
        uses: [...SUBMISSION, ANSWER],
        replies: {
          200: {
            description: "The completion; with `stream`, its chunks.",
            schema: TextCompletion,
            events: { data: TextCompletion, endsWithDone: true },
          },
        },
      },
      async (c, { body, json }) => {
        const job = await submit(c, fromCompletion(body), deadlineSeconds);
        const replies = completionReplies(job);
        const options = answerOptions(body, log);
        if (options.stream) return streamAnswer(c, job, replies, options);
        return json(200, await wholeAnswer(c, job, replies, options));
      },
    ),
  ];
}
