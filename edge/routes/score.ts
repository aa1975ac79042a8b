/** `/v1/score`: the log-probabilities of given texts under each model. */
import * as v from "valibot";
import {
  ChoicesScoreRequest,
  Score,
  ScoreList,
  ScoreRequest,
  TextsScoreRequest,
} from "../../shared/api/score.ts";
import { ANSWER, awaitChoice, awaitChoices } from "../answers/answer.ts";
import {
  type AnyScoreRequest,
  completionParams,
  fromScore,
  toScore,
  toScoreList,
} from "../answers/score.ts";
import { choiceIds } from "../../shared/jobs/ids.ts";
import { route, type JsonBody, type Route } from "../http/route.ts";
import { submit, SUBMISSION } from "../requests/submit.ts";
import type { RouteSettings } from "./settings.ts";

const EXAMPLE = {
  model: "atlas-qa",
  messages: [{ role: "user", content: "What is the capital of France?" }],
  completion: "Paris",
};

const CHOICES_EXAMPLE = {
  model: "atlas-qa",
  messages: EXAMPLE.messages,
  completions: ["Paris", "London"],
};
const TEXTS_EXAMPLE = {
  model: "atlas-qa",
  inputs: [{ prompt: "the capital of france is", completions: [" paris", " london"] }],
  candidates: { top: 8 },
};

const hasMember = (body: unknown, name: string) =>
  typeof body === "object" && body !== null && name in body;

const BODY: JsonBody<AnyScoreRequest> = {
  mediaType: "application/json",
  schemas: [ScoreRequest, ChoicesScoreRequest, TextsScoreRequest],
  choose: (body) =>
    hasMember(body, "inputs")
      ? TextsScoreRequest
      : hasMember(body, "completions")
        ? ChoicesScoreRequest
        : ScoreRequest,
  examples: [EXAMPLE, CHOICES_EXAMPLE, TEXTS_EXAMPLE],
};

export function scoreRoutes({ deadlineSeconds }: RouteSettings): Route[] {
  return [
    route(
      {
        method: "POST",
        path: "/v1/score",
        operationId: "createScore",
        tag: "Jobs",
        summary: "Score texts, token by token, under each model",
        description:
          "The reply waits until the jobs have ended. With `completion` it is one score, which `POST /v1/jobs` makes without waiting. With `completions` or `inputs` it is a list, with one job for each completion.",
        access: { scope: "jobs:write" },
        body: BODY,
        uses: [...SUBMISSION, ANSWER],
        replies: {
          200: {
            description: "The score, or the list of them.",
            schema: v.union([Score, ScoreList]),
          },
        },
      },
      async (c, { body, json }) => {
        const job = await submit(c, fromScore(body), deadlineSeconds);
        if (!("completion" in body)) {
          const params = completionParams(body);
          const choices = await awaitChoices(c, choiceIds(job), {
            fieldsOf: (i) => ({ own: params[i], prompt: "completion" }),
            cancelsRest: true,
          });
          return json(200, toScoreList(job, choices));
        }
        const { output, end } = await awaitChoice(c, job.id, c.req.raw.signal, {
          prompt: "completion",
        });
        return json(200, toScore(job, output, end.usage));
      },
    ),
  ];
}
