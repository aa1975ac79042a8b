/** The replies of the OpenAI protocols, as far as they are served: what openai-shapes.ts and response-object.ts make. */
import type { FinishReason, Job, Usage } from "./contract.ts";
import type { ErrorCode } from "./errors.ts";
import type { TextFormat } from "./responses.ts";
import type { TokenShift } from "./reports.ts";

interface ChatToken {
  readonly token: string;
  readonly logprob: number;
  readonly bytes: readonly number[];
}

export interface ChatLogprobs {
  readonly content: readonly (ChatToken & { readonly top_logprobs: readonly ChatToken[] })[];
  readonly refusal: null;
}

/** What every choice of a chat has, whole or in pieces. */
interface ChatChoice {
  readonly index: number;
  readonly logprobs: ChatLogprobs | null;
  /** What steering did to each token, if it was asked for. */
  readonly trace?: readonly TokenShift[];
  readonly finish_reason: FinishReason | null;
}

export interface ChatCompletion {
  readonly id: string;
  readonly object: "chat.completion";
  readonly created: number;
  readonly model: string;
  readonly choices: readonly (ChatChoice & {
    readonly message: {
      readonly role: "assistant";
      readonly content: string;
      readonly refusal: null;
    };
  })[];
  readonly usage: Usage;
}

export interface ChatCompletionChunk {
  readonly id: string;
  readonly object: "chat.completion.chunk";
  readonly created: number;
  readonly model: string;
  readonly choices: readonly (ChatChoice & {
    readonly delta: {
      readonly role?: "assistant";
      readonly content?: string;
      readonly refusal?: null;
    };
  })[];
  /** With `stream_options.include_usage`: null but in the last chunk. */
  readonly usage?: Usage | null;
}

/** A whole completion, and a chunk of a streamed one. */
export interface TextCompletion {
  readonly id: string;
  readonly object: "text_completion";
  readonly created: number;
  readonly model: string;
  readonly choices: readonly {
    readonly index: number;
    readonly text: string;
    readonly logprobs: {
      readonly tokens: readonly string[];
      readonly token_logprobs: readonly number[];
      readonly top_logprobs: readonly Readonly<Record<string, number>>[];
      readonly text_offset: readonly number[];
    } | null;
    /** What steering did to each token, if it was asked for. */
    readonly trace?: readonly TokenShift[];
    readonly finish_reason: FinishReason | null;
  }[];
  /** Of chunks only with `stream_options.include_usage`: null but in the last one. */
  readonly usage?: Usage | null;
}

interface OutputText {
  readonly type: "output_text";
  readonly text: string;
  readonly annotations: readonly never[];
  readonly logprobs: ChatLogprobs["content"];
  /** What steering did to each token, if it was asked for. */
  readonly trace?: readonly TokenShift[];
}

/** The `response` of the Responses API. */
export interface ResponseObject {
  readonly id: string;
  readonly object: "response";
  readonly created_at: number;
  readonly completed_at: number | null;
  readonly status: "queued" | "in_progress" | "completed" | "incomplete" | "failed" | "cancelled";
  readonly background: boolean;
  readonly error: { readonly code: ErrorCode; readonly message: string } | null;
  readonly incomplete_details: { readonly reason: "max_output_tokens" } | null;
  readonly instructions: string | null;
  readonly previous_response_id: string | null;
  readonly model: string;
  readonly output: readonly {
    readonly id: string;
    readonly type: "message";
    readonly role: "assistant";
    readonly status: "in_progress" | "completed" | "incomplete";
    readonly content: readonly OutputText[];
  }[];
  readonly usage: {
    readonly input_tokens: number;
    readonly input_tokens_details: {
      readonly cached_tokens: number;
      readonly cache_write_tokens: number;
    };
    readonly output_tokens: number;
    readonly output_tokens_details: { readonly reasoning_tokens: number };
    readonly total_tokens: number;
    readonly speculation: Usage["speculation"];
  } | null;
  readonly temperature: number;
  readonly top_p: number;
  readonly presence_penalty: number;
  readonly frequency_penalty: number;
  readonly top_logprobs: number;
  readonly max_output_tokens: number;
  readonly seed: number;
  readonly steering: Job["steering"];
  readonly store: boolean;
  readonly metadata: Readonly<Record<string, string>>;
  readonly user: string | null;
  readonly safety_identifier: string | null;
  readonly prompt_cache_key: string | null;
  readonly text: { readonly format: TextFormat };
  readonly truncation: "disabled";
  readonly tools: readonly never[];
  readonly tool_choice: "auto";
  readonly parallel_tool_calls: boolean;
  readonly max_tool_calls: null;
  readonly reasoning: null;
  readonly service_tier: "default";
}

/** One event of a response's stream; what else it has depends on its type, as in OpenAI's API. */
export interface ResponseStreamEvent {
  readonly type: string;
  /** Counts from 0 without gaps. */
  readonly sequence_number: number;
  readonly [member: string]: unknown;
}

/** What a response went on from. */
export interface ResponseInputItem {
  readonly id: string;
  readonly type: "message";
  readonly role: "system" | "developer" | "user" | "assistant";
  readonly status: string;
  readonly content: readonly { readonly type: string; readonly text: string }[];
}
