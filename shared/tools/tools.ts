/**
 * Functions that a model may call, and its calls.
 *
 * The folder tools/ owns how a call is written in a model's output: the formats (formats.ts), the grammar that holds an
 * output to them (grammar.ts) and the parser that finds the calls in a text (parser.ts). It knows no tokens and no templates:
 * prompts with tools are rendered in worker/engine/model/.
 */

/** A function that the model may call. */
export interface FunctionTool {
  readonly name: string;
  readonly description?: string;
  /** The JSON Schema of its arguments; absent for a function without arguments. */
  readonly parameters?: Readonly<Record<string, unknown>>;
  /** Absent for false. */
  readonly strict?: boolean;
}

export interface ToolSettings {
  /** The name of the format of calls (formats.ts). */
  readonly format: string;
  readonly functions: readonly FunctionTool[];
  /** Whether the model may call functions. With "required" the whole output is calls. */
  readonly choice: "none" | "auto" | "required";
  /** Names of the only functions that may be called; absent for all. */
  readonly allowed?: readonly string[];
  /** Whether the model may call several functions at once. */
  readonly parallel: boolean;
  /** Whether an output with calls has no text before them, because a text has a response format; absent for false. */
  readonly callsOnly?: boolean;
}

/** Names of the functions that may be called. */
export const callable = ({ allowed, functions }: Pick<ToolSettings, "allowed" | "functions">) =>
  allowed ?? functions.map(({ name }) => name);

/** A call of a function. */
export interface FunctionCall {
  readonly name: string;
  /** JSON text. It is incomplete if the output ended within it. */
  readonly arguments: string;
}

/** A call in a conversation. */
export interface ToolCall extends FunctionCall {
  /** The result of the call refers to it. */
  readonly id: string;
}

/** The id of a job's call: the same whenever and wherever the job is read. */
export const callId = (jobId: string, index: number) =>
  `call_${jobId.replace(/^job_/, "")}_${index}`;
