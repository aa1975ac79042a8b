/** Functions as Anthropic's Messages API spells them, and the blocks of their calls and results. */
import * as v from "valibot";
import { REPLY_MEMBERS, textPart } from "./input.ts";
import { LIMITS } from "./limits.ts";
import { requestObject } from "./request-object.ts";
import { jsonObject, schema } from "./response-formats.ts";
import { field, optional, text, type Reply } from "./schema.ts";
import { functionName } from "./tools.ts";

/** Hints about caching and about how calls are sent, which change nothing here. */
const TOOL_MEMBERS: ReadonlySet<string> = new Set([
  "allowed_callers",
  "cache_control",
  "defer_loading",
  "eager_input_streaming",
  "input_examples",
]);

const MessageTool = requestObject(
  {
    type: optional(v.literal("custom"), "The type: `custom`, a function of the client.", {
      default: "custom",
    }),
    name: field(functionName, "The function's name.", { examples: ["get_weather"] }),
    description: optional(
      text(LIMITS.toolDescriptionCharsMax),
      "What the function does, for the model.",
    ),
    input_schema: field(
      schema,
      `The JSON Schema of the arguments, an object, up to ${LIMITS.schemaCharsMax} characters as JSON.`,
    ),
    strict: optional(
      v.boolean(),
      "Arguments match the schema in any case, and have no properties that it neither declares nor mentions. If it has keywords that are not supported, a function with `strict: true` is refused, and another one gets any JSON object.",
      { default: false },
    ),
  },
  TOOL_MEMBERS,
);

const disableParallel = {
  disable_parallel_tool_use: optional(v.boolean(), "Whether the output may have only one call.", {
    default: false,
  }),
};

/** `tool_choice` of messages. */
export const MessageToolChoice = v.variant("type", [
  requestObject({
    type: field(v.literal("auto"), "The model may call functions."),
    ...disableParallel,
  }),
  requestObject({
    type: field(v.literal("any"), "The model must call a function."),
    ...disableParallel,
  }),
  requestObject({
    type: field(v.literal("tool"), "The model must call this function."),
    name: field(functionName, "The function's name."),
    ...disableParallel,
  }),
  requestObject(
    { type: field(v.literal("none"), "The model does not see the functions.") },
    new Set(["disable_parallel_tool_use"]),
  ),
]);
export type MessageToolChoice = v.InferOutput<typeof MessageToolChoice>;

/** The fields of a message request about tools. */
export const messageToolFields = {
  tools: optional(
    v.pipe(
      v.array(MessageTool),
      v.maxLength(LIMITS.toolsMax),
      v.check(
        (tools) => JSON.stringify(tools).length <= LIMITS.toolsCharsMax,
        `Expected at most ${LIMITS.toolsCharsMax} characters of JSON`,
      ),
      v.check(
        (tools) => new Set(tools.map(({ name }) => name)).size === tools.length,
        "Expected functions with different names",
      ),
    ),
    `Functions that the model may call, up to ${LIMITS.toolsMax} and ${LIMITS.toolsCharsMax} characters as JSON. Arguments match the function's schema.`,
  ),
  tool_choice: optional(
    MessageToolChoice,
    "Whether the model may, must or does not call functions.",
  ),
};

const callId = (description: string) => field(text(LIMITS.modelCharsMax), description);

/** A call may be as long as a message: this server generated it. */
const callInput = jsonObject(LIMITS.promptCharsMax);

/** A call of an earlier answer, sent back. */
export const ToolUseInput = requestObject(
  {
    type: field(v.literal("tool_use"), "The type of this block: `tool_use`."),
    id: callId("The call's id."),
    name: field(functionName, "The function's name."),
    input: field(callInput, `The arguments, up to ${LIMITS.promptCharsMax} characters as JSON.`),
  },
  new Set([...REPLY_MEMBERS, "caller"]),
);

/** The result of a call. */
export const ToolResultInput = requestObject(
  {
    type: field(v.literal("tool_result"), "The type of this block: `tool_result`."),
    tool_use_id: callId("The id of the call whose result this is."),
    content: optional(
      v.union(
        [
          text(LIMITS.promptCharsMax),
          v.pipe(
            v.array(textPart("text", "The type of this block: `text`.")),
            v.maxLength(LIMITS.messagesMax),
          ),
        ],
        "Expected a string or an array of text blocks",
      ),
      "The result: a string, or text blocks, which are joined by line breaks.",
    ),
    is_error: optional(
      v.boolean(),
      "Whether the call failed. Its text should say so: the model reads only the text.",
      {
        default: false,
      },
    ),
  },
  new Set(["cache_control"]),
);

/** A call in a message. */
export const ToolUseBlock = v.strictObject({
  type: field(v.literal("tool_use"), "The type of this block: `tool_use`."),
  id: field(v.string(), "The call's id, which its result names."),
  name: field(v.string(), "The function's name."),
  input: field(
    v.looseObject({}),
    "The arguments, which match the function's schema. Empty if the output ended within them.",
  ),
});
export type ToolUseBlock = Reply<typeof ToolUseBlock>;
