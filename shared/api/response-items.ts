/** The items of the Responses API: messages, calls of functions and their results, in requests and in replies. */
import * as v from "valibot";
import { ChatTokenLogprob } from "./chat-and-completions.ts";
import { REPLY_MEMBERS, RefusalPart, ROLES, textPart } from "./input.ts";
import { LIMITS } from "./limits.ts";
import { pageSchema } from "./lists.ts";
import { requestObject } from "./request-object.ts";
import { field, nonEmpty, optional, text, type Reply } from "./schema.ts";
import { TokenShift } from "./token-details.ts";
import { functionName } from "./tools.ts";

const part = v.variant("type", [
  textPart("input_text", "A text that the model reads."),
  textPart("output_text", "A text of an earlier response."),
  textPart("text", "A text, as chats call it."),
  RefusalPart,
]);

/** Members of items that a reply has and that are not used when it is sent back. */
const ITEM_MEMBERS: ReadonlySet<string> = new Set([
  ...REPLY_MEMBERS,
  "caller",
  "created_by",
  "namespace",
  "parsed_arguments",
]);

const messageItem = requestObject(
  {
    type: optional(v.literal("message"), "The type of this item.", { default: "message" }),
    role: field(v.picklist(ROLES), "The author of the message.", { examples: ["user"] }),
    content: field(
      v.union(
        [text(LIMITS.promptCharsMax), v.pipe(v.array(part), v.maxLength(LIMITS.messagesMax))],
        "Expected a string or an array of text parts",
      ),
      "The message: a string, or text parts, which are joined by line breaks.",
      { examples: ["What is the capital of France?"] },
    ),
  },
  REPLY_MEMBERS,
);

const callFields = {
  call_id: field(nonEmpty(LIMITS.modelCharsMax), "The id of the call."),
};

const callItem = requestObject(
  {
    type: field(v.literal("function_call"), "The type of this item: `function_call`."),
    ...callFields,
    name: field(functionName, "The function's name."),
    arguments: field(text(LIMITS.promptCharsMax), "The arguments as JSON text."),
  },
  ITEM_MEMBERS,
);

const callOutputItem = requestObject(
  {
    type: field(
      v.literal("function_call_output"),
      "The type of this item: `function_call_output`.",
    ),
    ...callFields,
    output: field(
      v.union(
        [text(LIMITS.promptCharsMax), v.pipe(v.array(part), v.maxLength(LIMITS.messagesMax))],
        "Expected a string or an array of text parts",
      ),
      "The function's result: a string, or text parts, which are joined by line breaks.",
    ),
  },
  ITEM_MEMBERS,
);

const itemReference = requestObject({
  type: field(
    v.nullish(v.literal("item_reference"), "item_reference"),
    "The type of this item: `item_reference`. It may be left out.",
  ),
  id: field(
    nonEmpty(LIMITS.modelCharsMax),
    "The id of a message or a call, in the `output` or the input items of a response.",
  ),
});

/** Reasoning of an earlier response, from another server. Any members are allowed: it is not used. */
const reasoningItem = v.looseObject({
  type: field(
    v.literal("reasoning"),
    "The type of this item: `reasoning`. It is accepted so that answers of other servers can be sent, and not used.",
  ),
});

export const InputItem = v.variant("type", [
  messageItem,
  callItem,
  callOutputItem,
  itemReference,
  reasoningItem,
]);
export type InputItem = v.InferOutput<typeof InputItem>;
export type InputMessage = v.InferOutput<typeof messageItem>;

export const OutputText = v.strictObject({
  type: field(v.literal("output_text"), "The type of this part: `output_text`."),
  text: field(v.string(), "The generated text.", { examples: ["The capital of France is Paris."] }),
  annotations: field(v.array(v.never()), "Always empty."),
  logprobs: field(
    v.array(ChatTokenLogprob),
    "Log-probabilities: one entry for each token, in order. Empty if the request does not ask for them.",
  ),
  trace: field(
    v.exactOptional(v.array(TokenShift)),
    "The steering trace: one entry for each token, in order. Present only if the request sets `steering.trace`.",
  ),
});
export type OutputText = Reply<typeof OutputText>;

const itemStatus = field(
  v.picklist(["in_progress", "completed", "incomplete"]),
  "`in_progress` until the item ends, then `completed` or `incomplete`.",
);
export type ResponseItemStatus = v.InferOutput<typeof itemStatus>;

export const OutputMessage = v.strictObject({
  id: field(v.string(), "The message's id."),
  type: field(v.literal("message"), "The type of this item: `message`."),
  role: field(v.literal("assistant"), "Always `assistant`."),
  status: itemStatus,
  content: field(
    v.array(OutputText),
    "The message's only part. Empty in the event `response.output_item.added`.",
  ),
});
export type OutputMessage = Reply<typeof OutputMessage>;

/** A call of a function, in an output or in the input of a response. */
export const FunctionCallItem = v.strictObject({
  id: field(v.string(), "The item's id."),
  type: field(v.literal("function_call"), "The type of this item: `function_call`."),
  status: itemStatus,
  call_id: field(v.string(), "The id of the call. The item with the function's result has it too."),
  name: field(v.string(), "The function's name.", { examples: ["get_weather"] }),
  arguments: field(
    v.string(),
    "The arguments as JSON text. They are incomplete if the response ended within them.",
    { examples: ['{"city": "Paris"}'] },
  ),
});
export type FunctionCallItem = Reply<typeof FunctionCallItem>;

export const OutputItem = v.variant("type", [OutputMessage, FunctionCallItem]);
export type OutputItem = Reply<typeof OutputItem>;

const inputMessage = v.strictObject({
  id: field(v.string(), "The message's id."),
  type: field(v.literal("message"), "The type of this item: `message`."),
  status: field(v.literal("completed"), "Always `completed`."),
  role: field(v.picklist(ROLES), "The author of the message.", { examples: ["user"] }),
  content: field(
    v.array(
      v.variant("type", [
        v.strictObject({
          type: field(v.literal("input_text"), "A text that the model reads."),
          text: field(v.string(), "The part's text."),
        }),
        OutputText,
      ]),
    ),
    "The message's only part.",
  ),
});

const inputCallOutput = v.strictObject({
  id: field(v.string(), "The item's id."),
  type: field(v.literal("function_call_output"), "The type of this item: `function_call_output`."),
  status: field(v.literal("completed"), "Always `completed`."),
  call_id: field(v.string(), "The id of the call whose result this is."),
  output: field(v.string(), "The function's result."),
});

/** An item of the conversation that a response continues: a message, a call of a function, or its result. */
export const ResponseInputItem = v.variant("type", [
  inputMessage,
  FunctionCallItem,
  inputCallOutput,
]);
export type ResponseInputItem = Reply<typeof ResponseInputItem>;

/** `GET /v1/responses/{id}/input_items` */
export const ResponseInputItemPage = pageSchema(ResponseInputItem);
