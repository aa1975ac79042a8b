/**
 * The trace that a request belongs to (W3C Trace Context). It is kept with the jobs, so that their worker continues it.
 * Where an OTLP endpoint is configured, the edge adds a span for each submission.
 */
import {
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  trace,
  type SpanContext,
} from "@opentelemetry/api";
import { parseTraceParent } from "@opentelemetry/core";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { SimpleSpanProcessor, TracerProvider } from "@opentelemetry/sdk-trace";
import * as v from "valibot";
import { AppError } from "../../shared/api/errors.ts";
import { field } from "../../shared/api/schema.ts";
import type { JobRecord } from "../../shared/jobs/record.ts";
import type { AppContext } from "../http/context.ts";
import type { ContractPart } from "../http/route.ts";

/** The contract part of routes that call `traceSubmission`. */
export const TRACE_CONTEXT: ContractPart = {
  headers: {
    traceparent: field(
      v.optional(v.string()),
      "The trace that the request belongs to, as W3C Trace Context writes it. The jobs keep it, and their worker logs it and continues the trace. A malformed one is ignored.",
      { examples: ["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"] },
    ),
  },
};

/**
 * Runs a submission, in a span if spans are sent.
 * @param submit gets the `traceparent` for the jobs; null if the request has none, or a malformed one, which must be ignored by
 * the standard
 */
export async function traceSubmission(
  c: AppContext,
  submit: (traceparent: string | null) => Promise<JobRecord>,
): Promise<JobRecord> {
  const parent = parseTraceParent(c.req.header("traceparent") ?? "");
  const { otlp } = c.var;
  if (!otlp) return submit(parent && toTraceparent(parent));
  // A provider for each request: in workerd, a request cannot wait for the network operations of another one.
  const provider = new TracerProvider({
    resource: resourceFromAttributes({ "service.name": "trimtab-edge" }),
    spanProcessors: [new SimpleSpanProcessor({ exporter: new OTLPTraceExporter(otlp) })],
  });
  const context = parent
    ? trace.setSpanContext(ROOT_CONTEXT, { ...parent, isRemote: true })
    : ROOT_CONTEXT;
  const attributes = { "url.path": c.req.path, "trimtab.request.id": c.var.requestId };
  const options = { kind: SpanKind.SERVER, attributes };
  const span = provider.getTracer("trimtab").startSpan("submit", options, context);
  try {
    const record = await submit(toTraceparent(span.spanContext()));
    span.setAttribute("trimtab.job.id", record.id);
    return record;
  } catch (error) {
    // The message of any other error is for the log only.
    const code = error instanceof AppError ? error.code : "internal";
    span.setAttribute("error.type", code).setStatus({ code: SpanStatusCode.ERROR });
    throw error;
  } finally {
    span.end();
    c.executionCtx.waitUntil(provider.shutdown());
  }
}

/** The header in version 00, the only one that is written here, also if a newer one was received: the standard requires that. */
function toTraceparent({ traceId, spanId, traceFlags }: SpanContext): string {
  return `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, "0")}`;
}
