/**
 * The cases of Open Responses' compliance suite (openresponses.org), written after its published descriptions: their names, what
 * they request, and what a response must have.
 */
import type { Outcome } from "./check.ts";

export interface Case {
  readonly id: string;
  readonly title: string;
  /** The body without `model` and `stream`. */
  readonly body: object;
  readonly stream?: boolean;
  /** The faults of the outcome, besides its schema. */
  readonly problems: (outcome: Outcome) => (string | false)[];
}

const message = (role: string, content: unknown) => ({ type: "message", role, content });

const WEATHER = {
  type: "function",
  name: "get_weather",
  description: "The weather at a place.",
  parameters: {
    type: "object",
    properties: { city: { type: "string", description: "A city." } },
    required: ["city"],
  },
};

const completed = ({ response }: Outcome) =>
  response.status !== "completed" && `status is ${String(response.status)}`;
const hasText = ({ response }: Outcome) =>
  !response.output.some(({ type }) => type === "message") && "there is no message";
const hasCall = ({ response }: Outcome) =>
  !response.output.some(({ type }) => type === "function_call") && "there is no function_call";
const hasEvent =
  (type: string, item?: string) =>
  ({ events }: Outcome) =>
    !events.some(
      (event) => event.type === type && (item === undefined || event.item?.type === item),
    ) && `there is no ${type}${item === undefined ? "" : ` of a ${item}`}`;

const check =
  (...rules: readonly ((outcome: Outcome) => string | false)[]): Case["problems"] =>
  (outcome) =>
    rules.map((rule) => rule(outcome));

export const CASES: readonly Case[] = [
  {
    id: "basic-response",
    title: "A text for a message of the user",
    body: { input: [message("user", "Greet me in three words.")] },
    problems: check(completed, hasText),
  },
  {
    id: "streaming-response",
    title: "The events of a streamed text",
    body: { input: [message("user", "Count to five.")] },
    stream: true,
    problems: check(
      completed,
      hasText,
      hasEvent("response.created"),
      hasEvent("response.in_progress"),
      hasEvent("response.output_item.added", "message"),
      hasEvent("response.content_part.added"),
      hasEvent("response.output_text.delta"),
      hasEvent("response.output_text.done"),
      hasEvent("response.content_part.done"),
      hasEvent("response.output_item.done", "message"),
      hasEvent("response.completed"),
    ),
  },
  {
    id: "system-prompt",
    title: "A message with the role system",
    body: { input: [message("system", "Talk like a pirate."), message("user", "Greet me.")] },
    problems: check(completed, hasText),
  },
  {
    id: "tool-calling",
    title: "A call of a function",
    body: { input: [message("user", "What is the weather in Oslo?")], tools: [WEATHER] },
    problems: check(completed, hasCall),
  },
  {
    id: "tool-calling-streaming",
    title: "The events of a streamed call",
    body: { input: [message("user", "What is the weather in Oslo?")], tools: [WEATHER] },
    stream: true,
    problems: check(
      completed,
      hasCall,
      hasEvent("response.output_item.added", "function_call"),
      hasEvent("response.function_call_arguments.delta"),
      hasEvent("response.function_call_arguments.done"),
      hasEvent("response.output_item.done", "function_call"),
    ),
  },
  {
    id: "multi-turn",
    title: "A conversation with an answer of the assistant",
    body: {
      input: [
        message("user", "I am Alice."),
        message("assistant", "Hello Alice!"),
        message("user", "Who am I?"),
      ],
    },
    problems: check(completed, hasText),
  },
];

/** Requests that a text model must refuse in the words of the specification: an error with a type, a code and the field. */
export const REFUSALS: readonly {
  readonly id: string;
  readonly path: string;
  readonly body: object;
  readonly status: number;
}[] = [
  {
    id: "image-input",
    path: "/responses",
    body: {
      input: [
        message("user", [
          { type: "input_text", text: "What is this?" },
          { type: "input_image", image_url: "data:image/png;base64,AA==" },
        ]),
      ],
    },
    status: 400,
  },
  { id: "compact", path: "/responses/compact", body: { input: "Hi" }, status: 400 },
];
