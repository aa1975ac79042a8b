/** JSON Schemas of requests, from the valibot schemas that check them; what these say in code is said here in words. */
import { toJsonSchemaDefs } from "@valibot/to-json-schema";
import * as v from "valibot";
import { BatchRequest } from "../../shared/batch-contract.ts";
import { generation, JobRequest, messages, prompt } from "../../shared/contract.ts";
import { ExpiresAfter, FileRequest } from "../../shared/file-contract.ts";
import { ChatRequest, CompletionRequest } from "../../shared/openai.ts";
import { KeyLimits, KeyRequest, RotateRequest, Scope } from "../../shared/policy.ts";
import { ResponseRequest } from "../../shared/responses.ts";
import { ScoreRequest } from "../../shared/score.ts";
import { TicketRequest } from "../../shared/ticket.ts";
import { EndpointChange, EndpointRequest, RotationRequest } from "../../shared/webhook-contract.ts";

export type JsonSchema = Readonly<Record<string, unknown>>;

/** As a form spells it. */
const FileUpload = v.strictObject({
  file: v.blob(),
  purpose: FileRequest.entries.purpose,
  "expires_after[anchor]": v.optional(ExpiresAfter.entries.anchor),
  "expires_after[seconds]": v.optional(ExpiresAfter.entries.seconds),
});

/** Bodies, and what several of them have in common. */
const SCHEMAS = {
  JobRequest,
  ScoreRequest,
  ChatRequest,
  CompletionRequest,
  ResponseRequest,
  TicketRequest,
  KeyRequest,
  RotateRequest,
  EndpointRequest,
  EndpointChange,
  RotationRequest,
  BatchRequest,
  FileUpload,
  Messages: messages,
  Prompt: prompt,
  Steering: generation.steering.wrapped,
  ResponseFormat: generation.response_format.wrapped,
  LogitBias: generation.logit_bias.wrapped,
  TextFormat: ResponseRequest.entries.text.wrapped.entries.format.wrapped,
  Metadata: generation.metadata.wrapped,
  KeyLimits,
  Scope,
};

/** Rules between fields, which valibot has as code. */
const ONE_INPUT = { oneOf: [{ required: ["messages"] }, { required: ["prompt"] }] };
const RULES: Readonly<Record<string, JsonSchema>> = {
  JobRequest: ONE_INPUT,
  ScoreRequest: ONE_INPUT,
};

export function requestSchemas(): Record<string, JsonSchema> {
  const schemas = toJsonSchemaDefs(SCHEMAS, {
    typeMode: "input",
    target: "draft-2020-12",
    // Rules that are code are told in RULES and in descriptions.
    errorMode: "ignore",
    overrideRef: ({ referenceId }) => `#/definitions/${referenceId}`,
    // URLs as browsers read them, which the standard behind the format does not.
    ignoreActions: ["url"],
    // The JSON Schema that a response format holds.
    overrideSchema: ({ valibotSchema, jsonSchema }) =>
      valibotSchema.type === "custom"
        ? { ...jsonSchema, type: "object" }
        : valibotSchema.type === "file" || valibotSchema.type === "blob"
          ? { ...jsonSchema, type: "string", format: "binary" }
          : undefined,
  });
  return Object.fromEntries(
    Object.entries(schemas).map(([name, schema]) => [name, { ...schema, ...RULES[name] }]),
  ) as Record<string, JsonSchema>;
}
