/** The input of a generation, which the output continues: the messages of a chat, or a prompt of text or token ids. */
import * as v from "valibot";
import { LIMITS } from "./limits.ts";
import { requestObject } from "./request-object.ts";
import { field, integer, optional, text } from "./schema.ts";
import { MessageToolCall } from "./tools.ts";

/**
 * Members of messages and parts that clients send back as they got them, here or from another server, or that are hints about
 * caching. They do not change what the model reads.
 */
export const REPLY_MEMBERS: ReadonlySet<string> = new Set([
  "annotations",
  "cache_control",
  "citations",
  "id",
  "index",
  "logprobs",
  "parsed",
  "parsed_arguments",
  "phase",
  "provider_specific_fields",
  "reasoning",
  "reasoning_content",
  "reasoning_details",
  "status",
  "thinking_blocks",
  "trace",
]);
const PART_MEMBERS: ReadonlySet<string> = new Set([...REPLY_MEMBERS, "role", "refusal"]);

/** A part of a message that is a text. @param type what it is called */
export function textPart<const Type extends string>(type: Type, description: string) {
  return requestObject(
    {
      type: field(v.literal(type), description),
      text: field(text(LIMITS.promptCharsMax), "The part's text."),
    },
    PART_MEMBERS,
  );
}

/** The text with which a model refused, sent back: it is a text like any other. */
export const RefusalPart = requestObject(
  {
    type: field(v.literal("refusal"), "A refusal of an earlier answer, from another server."),
    refusal: field(text(LIMITS.promptCharsMax), "The refusal's text."),
  },
  PART_MEMBERS,
);

const part = v.variant("type", [textPart("text", "The type of this part: `text`."), RefusalPart]);

/** The text of a message's content: its parts become lines. */
export function contentText(
  content: string | readonly ({ readonly text: string } | { readonly refusal: string })[],
): string {
  if (typeof content === "string") return content;
  return content.map((part) => ("text" in part ? part.text : part.refusal)).join("\n");
}

export const ROLES = ["system", "developer", "user", "assistant"] as const;
/** Of messages of a chat: `tool` is the result of a function. */
const CHAT_ROLES = [...ROLES, "tool"] as const;

export const Message = v.pipe(
  requestObject(
    {
      role: field(
        v.picklist(CHAT_ROLES),
        "The author of the message; `tool` for the result of a function.",
        { examples: ["user"] },
      ),
      content: optional(
        v.union(
          [text(LIMITS.promptCharsMax), v.pipe(v.array(part), v.maxLength(LIMITS.messagesMax))],
          "Expected a string or an array of text parts",
        ),
        "The message: a string, or text parts, which are joined by line breaks. Only a message of the assistant may be without it.",
        { examples: ["What is the capital of France?"] },
      ),
      name: optional(
        text(LIMITS.modelCharsMax),
        "The author's name. It is accepted for compatibility and does not change the output.",
      ),
      refusal: optional(
        text(LIMITS.promptCharsMax),
        "The refusal of an earlier answer, from another server. It is the message's text if there is no other.",
      ),
      tool_calls: optional(
        v.pipe(v.array(MessageToolCall), v.maxLength(LIMITS.toolsMax)),
        "The functions that the assistant called.",
      ),
      tool_call_id: optional(
        text(LIMITS.modelCharsMax),
        "In messages with the role `tool`, the id of the call whose result this is.",
      ),
    },
    REPLY_MEMBERS,
  ),
  v.forward(
    v.check(
      ({ role, content }) => role === "assistant" || content != null,
      "Expected a string or an array of text parts",
    ),
    ["content"],
  ),
);
export type Message = v.InferOutput<typeof Message>;

/** A conversation, the oldest message first. */
export const Messages = v.pipe(
  v.array(Message),
  v.minLength(1),
  v.maxLength(LIMITS.messagesMax),
  v.description("A conversation, the oldest message first."),
);

const tokenId = integer(0, 2 ** 31 - 1);
/** Token ids, or none. */
export const TokenIds = v.pipe(v.array(tokenId), v.maxLength(LIMITS.promptTokensMax));

export const PromptTokens = v.pipe(
  v.array(tokenId),
  v.minLength(1),
  v.maxLength(LIMITS.promptTokensMax),
  v.description("Token ids of the model's vocabulary."),
);

export const Prompt = v.pipe(
  v.union(
    [text(LIMITS.promptCharsMax), PromptTokens],
    "Expected a string or a non-empty array of token ids",
  ),
  v.description("A text or token ids, without a chat template."),
);

/** Requests that take either a conversation or a prompt. */
export const inputFields = {
  messages: field(
    v.optional(Messages),
    "The conversation to continue, the oldest message first. Give exactly one of `messages` and `prompt`.",
    { examples: [[{ role: "user", content: "What is the capital of France?" }]] },
  ),
  prompt: field(
    v.optional(Prompt),
    "The text or the token ids to continue, without a chat template. Give exactly one of `messages` and `prompt`.",
    { examples: ["The capital of France is"] },
  ),
};

export const hasOneInput = ({ messages, prompt }: { messages?: unknown; prompt?: unknown }) =>
  (messages === undefined) !== (prompt === undefined);
export const ONE_INPUT_MESSAGE = "Exactly one of messages and prompt must be set";
