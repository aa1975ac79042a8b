/**
 * A hosted model's API: POST /completions and POST /chat/completions, with the caps and error texts of OpenAI's. It tells tokens by
 * their texts, and makes its own tokens of the texts that it gets.
 */
import type { ModelTokenizer } from "../../../worker/engine/model/tokenizer.ts";
import { likeliest } from "./logits.ts";
import { toldLogprobs, type ServedModel } from "./model.ts";
import type { BaseReply, BaseRoutes } from "./server.ts";

export interface HostedModel extends ServedModel {
  readonly tokenizer: Pick<ModelTokenizer, "encodeCompletion" | "tokenBytes" | "tokenText">;
  /** Longest list: 5 and 20 at OpenAI. */
  readonly topMax?: number;
  /** The token that the server adds to the beginning of a prompt. */
  readonly addedId?: number;
  /** How a chat is told to continue its last message; absent if it cannot. */
  readonly continues?: "always" | "prefix" | "continue_final_message";
  /** Whether the replies have no token counts. */
  readonly hidesUsage?: boolean;
}

interface Query {
  readonly prompt: string | readonly string[];
  readonly messages: readonly {
    readonly role: string;
    readonly content: string;
    readonly prefix?: boolean;
  }[];
  readonly continue_final_message?: boolean;
  readonly temperature: number;
  readonly logprobs: number | boolean;
  readonly top_logprobs: number;
}

/** The tokens of a turn's beginning and end. */
const [TURN, END] = [1, 2];

export function openaiRoutes(model: HostedModel): BaseRoutes {
  const { tokenizer, topMax = 20 } = model;
  const bytesOf = (id: number) =>
    tokenizer.tokenBytes(id) ?? Buffer.from(tokenizer.tokenText(id).token);
  const textOf = (id: number) => new TextDecoder().decode(bytesOf(id));
  const drawn = async (ids: readonly number[], temperature: number) => {
    const told = await toldLogprobs(model, ids, temperature);
    // The server draws a token, which may be none of the most likely.
    return { told, sampled: ids.length % 3 === 0 ? 300 : likeliest(told, 1)[0]! };
  };
  const usage = (count: number) =>
    model.hidesUsage ? {} : { usage: { prompt_tokens: count, completion_tokens: 1 } };
  const complete = async ({ prompt, logprobs, temperature }: Query): Promise<BaseReply> => {
    const top = Number(logprobs);
    if (top > topMax) return tooMany("logprobs", topMax);
    const added = model.addedId === undefined ? [] : [model.addedId];
    const prompts = [prompt].flat().map((text) => [...added, ...tokenizer.encodeCompletion(text)]);
    const choices = [];
    for (const [index, ids] of prompts.entries()) {
      const { told, sampled } = await drawn(ids, temperature);
      const listed = [...likeliest(told, top), sampled].map((id) => [textOf(id), told[id]]);
      choices.push({
        index,
        text: textOf(sampled),
        finish_reason: "length",
        logprobs: {
          tokens: [textOf(sampled)],
          token_logprobs: [told[sampled]],
          top_logprobs: [Object.fromEntries(listed)],
          text_offset: [0],
        },
      });
    }
    const tokens = prompts.reduce((sum, ids) => sum + ids.length, 0);
    return { body: { object: "text_completion", choices, ...usage(tokens) } };
  };
  const chat = async (query: Query): Promise<BaseReply> => {
    if (query.top_logprobs > topMax) return tooMany("top_logprobs", topMax);
    const ids = conversation(model, query);
    const { told, sampled } = await drawn(ids, query.temperature);
    const entry = (id: number) => ({
      token: textOf(id),
      logprob: told[id],
      bytes: [...bytesOf(id)],
    });
    const content = [
      { ...entry(sampled), top_logprobs: likeliest(told, query.top_logprobs).map(entry) },
    ];
    const message = { role: "assistant", content: textOf(sampled) };
    const choice = { index: 0, message, logprobs: { content }, finish_reason: "length" };
    return { body: { object: "chat.completion", choices: [choice], ...usage(ids.length) } };
  };
  return async (path, body) => {
    if (path === "/completions") return complete(body as unknown as Query);
    if (path === "/chat/completions") return chat(body as unknown as Query);
    return null;
  };
}

/** The tokens of a chat: a last message of the assistant is continued, or it is a turn that has ended. */
function conversation({ tokenizer, continues }: HostedModel, query: Query): number[] {
  const { messages, continue_final_message = false } = query;
  const last = messages.at(-1)!;
  const isContinued =
    last.role === "assistant" &&
    (continues === "always" ||
      (continues === "prefix" && last.prefix === true) ||
      (continues === "continue_final_message" && continue_final_message));
  const turns = messages.flatMap(({ content }, i) => {
    const ids = [TURN, ...tokenizer.encodeCompletion(content)];
    return i === messages.length - 1 && isContinued ? ids : [...ids, END];
  });
  return isContinued ? turns : [...turns, TURN];
}

const tooMany = (field: string, max: number): BaseReply => ({
  status: 400,
  body: {
    error: {
      message: `Invalid value for '${field}': must be less than or equal to ${max}.`,
      type: "invalid_request_error",
      param: field,
      code: null,
    },
  },
});
