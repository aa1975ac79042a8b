/** Functions that a model may call, in the two spellings of OpenAI's protocols, and its calls. */
import * as v from "valibot";
import { LIMITS } from "./limits.ts";
import { requestObject } from "./request-object.ts";
import { schema } from "./response-formats.ts";
import { field, optional, text, type Reply } from "./schema.ts";

export const functionName = v.pipe(
  v.string(),
  v.regex(
    new RegExp(`^[\\w-]{1,${LIMITS.toolNameCharsMax}}$`),
    `Expected 1 to ${LIMITS.toolNameCharsMax} letters, digits, _ and -`,
  ),
);

const functionFields = {
  name: field(functionName, "The function's name.", { examples: ["get_weather"] }),
  description: optional(
    text(LIMITS.toolDescriptionCharsMax),
    "What the function does, for the model.",
    { examples: ["The weather in a city."] },
  ),
  parameters: optional(
    schema,
    `The JSON Schema of the arguments, an object, up to ${LIMITS.schemaCharsMax} characters as JSON. The default is a function without arguments.`,
    {
      examples: [{ type: "object", properties: { city: { type: "string" } }, required: ["city"] }],
    },
  ),
  strict: optional(
    v.boolean(),
    "Arguments match the schema in any case, and have no properties that it neither declares nor mentions. If it has keywords that are not supported, a function with `strict: true` is refused, and another one gets any JSON object.",
    { default: false },
  ),
};

const functionType = field(v.literal("function"), "The type: `function`.");

/** A hint about caching, which changes nothing here. */
const TOOL_MEMBERS: ReadonlySet<string> = new Set(["cache_control"]);

/** A tool as chats and jobs spell it. */
export const ChatTool = requestObject(
  {
    type: functionType,
    function: field(requestObject(functionFields, TOOL_MEMBERS), "The function."),
  },
  TOOL_MEMBERS,
);
export type ChatTool = v.InferOutput<typeof ChatTool>;

/** A tool as responses spell it. */
export const ResponseTool = requestObject({ type: functionType, ...functionFields }, TOOL_MEMBERS);
export type ResponseTool = v.InferOutput<typeof ResponseTool>;

/** A tool in a response. */
export const ShownResponseTool = v.strictObject({
  type: functionType,
  name: field(v.string(), "The function's name."),
  description: field(v.nullable(v.string()), "What the function does. Null if that is not given."),
  parameters: field(
    v.nullable(schema),
    "The JSON Schema of the arguments. Null for a function without arguments.",
  ),
  strict: field(v.boolean(), "Whether the request sets `strict`."),
});
export type ShownResponseTool = Reply<typeof ShownResponseTool>;

/** A list of tools, each name once. */
function toolList<const Tool extends v.GenericSchema>(
  tool: Tool,
  nameOf: (tool: v.InferOutput<Tool>) => string,
) {
  return v.pipe(
    v.array(tool),
    v.maxLength(LIMITS.toolsMax),
    v.check(
      (tools) => JSON.stringify(tools).length <= LIMITS.toolsCharsMax,
      `Expected at most ${LIMITS.toolsCharsMax} characters of JSON`,
    ),
    v.check(
      (tools) => new Set(tools.map(nameOf)).size === tools.length,
      "Expected functions with different names",
    ),
  );
}

const modes = ["none", "auto", "required"] as const;
const allowedMode = field(
  v.picklist(["auto", "required"]),
  "Whether one of these functions may be called (`auto`) or must be called (`required`).",
);
const chatChoice = requestObject({
  type: functionType,
  function: field(
    requestObject({ name: field(functionName, "The function's name.") }),
    "The function.",
  ),
});
const responseChoice = requestObject({
  type: functionType,
  name: field(functionName, "The function's name."),
});
const allowedType = field(
  v.literal("allowed_tools"),
  "The type: `allowed_tools`, some of the functions.",
);
const allowedList = <const Choice extends v.GenericSchema>(choice: Choice) =>
  field(
    v.pipe(v.array(choice), v.minLength(1), v.maxLength(LIMITS.toolsMax)),
    "The functions that may be called.",
  );

/** `tool_choice` of chats and jobs. */
export const ChatToolChoice = v.union(
  [
    v.picklist(modes),
    chatChoice,
    requestObject({
      type: allowedType,
      allowed_tools: field(
        requestObject({ mode: allowedMode, tools: allowedList(chatChoice) }),
        "The functions, and whether one must be called.",
      ),
    }),
  ],
  "Expected none, auto, required, a function or allowed_tools",
);
export type ChatToolChoice = v.InferOutput<typeof ChatToolChoice>;

/** `tool_choice` of responses. */
export const ResponseToolChoice = v.union(
  [
    v.picklist(modes),
    responseChoice,
    requestObject({ type: allowedType, mode: allowedMode, tools: allowedList(responseChoice) }),
  ],
  "Expected none, auto, required, a function or allowed_tools",
);
export type ResponseToolChoice = v.InferOutput<typeof ResponseToolChoice>;

const TOOLS = `Functions that the model may call, up to ${LIMITS.toolsMax} and ${LIMITS.toolsCharsMax} characters as JSON. Arguments match the function's schema.`;
const TOOL_CHOICE =
  "Whether the model must call a function (`required`, or the name of one), may (`auto`), or does not (`none`: it does not see them). `allowed_tools` restricts calls to some of them.";
const parallelToolCalls = optional(v.boolean(), "Whether the output may have several calls.", {
  default: true,
});

/** The fields of chats and jobs about tools. */
export const chatToolFields = {
  tools: optional(
    toolList(ChatTool, (tool) => tool.function.name),
    TOOLS,
  ),
  tool_choice: optional(ChatToolChoice, TOOL_CHOICE, { default: "auto" }),
  parallel_tool_calls: parallelToolCalls,
};
export type ChatToolFields = v.InferOutput<v.StrictObjectSchema<typeof chatToolFields, undefined>>;

/** The fields of responses about tools. */
export const responseToolFields = {
  tools: optional(
    toolList(ResponseTool, (tool) => tool.name),
    TOOLS,
  ),
  tool_choice: optional(ResponseToolChoice, TOOL_CHOICE, { default: "auto" }),
  parallel_tool_calls: parallelToolCalls,
};
export type ResponseToolFields = v.InferOutput<
  v.StrictObjectSchema<typeof responseToolFields, undefined>
>;

const callArguments = field(
  v.string(),
  "The arguments as JSON text. They are incomplete if the output ended within them.",
  { examples: ['{"city": "Paris"}'] },
);

/** A call of a function, in a reply or in a conversation. */
export const ChatToolCall = v.strictObject({
  id: field(v.string(), "The call's id. The message with the function's result refers to it.", {
    examples: ["call_0198c2f4e5b07a31_0"],
  }),
  type: functionType,
  function: field(
    v.strictObject({
      name: field(v.string(), "The function's name.", { examples: ["get_weather"] }),
      arguments: callArguments,
    }),
    "The function, and the arguments of the call.",
  ),
});
export type ChatToolCall = Reply<typeof ChatToolCall>;

/** The part of a call that a chunk adds. */
export const ChatToolCallDelta = v.strictObject({
  index: field(
    v.pipe(v.number(), v.integer(), v.minValue(0)),
    "The call's number in the output, from 0.",
  ),
  id: field(v.exactOptional(v.string()), "The call's id, in the first chunk of the call."),
  type: field(
    v.exactOptional(v.literal("function")),
    "`function`, in the first chunk of the call.",
  ),
  function: field(
    v.strictObject({
      name: field(
        v.exactOptional(v.string()),
        "The function's name, in the first chunk of the call.",
      ),
      arguments: field(v.string(), "The next piece of the arguments, as JSON text."),
    }),
    "What this chunk adds to the call.",
  ),
});
export type ChatToolCallDelta = Reply<typeof ChatToolCallDelta>;

/** Members of calls that clients send back as they got them. */
const CALL_MEMBERS: ReadonlySet<string> = new Set([
  "index",
  "parsed_arguments",
  "provider_specific_fields",
]);

/** A call of an earlier answer, as a message of the assistant has it. */
export const MessageToolCall = requestObject(
  {
    id: field(text(LIMITS.modelCharsMax), "The call's id."),
    type: optional(v.literal("function"), "The type: `function`.", { default: "function" }),
    function: field(
      requestObject(
        {
          name: field(functionName, "The function's name."),
          arguments: field(text(LIMITS.promptCharsMax), "The arguments as JSON text."),
        },
        CALL_MEMBERS,
      ),
      "The function, and the arguments of the call.",
    ),
  },
  CALL_MEMBERS,
);
