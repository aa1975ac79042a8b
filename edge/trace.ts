/**
 * Which trace a request belongs to, as W3C Trace Context tells it: its jobs keep it, and their workers go on with it. Where
 * an OTLP endpoint is configured the edge adds a span of its own, the submission.
 */
import { ROOT_CONTEXT, SpanKind, trace } from "@opentelemetry/api";
import { parseTraceParent } from "@opentelemetry/core";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { SimpleSpanProcessor, TracerProvider } from "@opentelemetry/sdk-trace";
import type { AppContext } from "./context.ts";

/** Where spans go. */
export interface Otlp {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** A submission while it is under way. */
export interface Submitting {
  /** For its jobs. */
  readonly traceparent: string | null;
  readonly end: (jobId: string) => void;
}

/** version-traceid-parentid-flags; later versions may say more behind. */
const TRACEPARENT =
  /^(?!ff)([\da-f]{2})-(?!0{32})[\da-f]{32}-(?!0{16})[\da-f]{16}-[\da-f]{2}(?=-|$)/;

/** The `traceparent`, or null where there is none or it is malformed: then the standard wants it ignored. */
function traceparentOf(c: AppContext): string | null {
  const header = c.req.header("traceparent") ?? "";
  const [known, version] = TRACEPARENT.exec(header) ?? [];
  return known === undefined || (version === "00" && known !== header) ? null : known;
}

export function traceSubmission(c: AppContext): Submitting {
  const given = traceparentOf(c);
  const { otlp } = c.var;
  if (!otlp) return { traceparent: given, end: () => {} };
  // Of this request alone: workerd lets none wait for what another one sends.
  const provider = new TracerProvider({
    resource: resourceFromAttributes({ "service.name": "trimtab-edge" }),
    spanProcessors: [new SimpleSpanProcessor({ exporter: new OTLPTraceExporter(otlp) })],
  });
  const caller = given === null ? null : parseTraceParent(given);
  const context = caller
    ? trace.setSpanContext(ROOT_CONTEXT, { ...caller, isRemote: true })
    : ROOT_CONTEXT;
  const attributes = { "url.path": c.req.path, "trimtab.request.id": c.var.requestId };
  const options = { kind: SpanKind.SERVER, attributes };
  const span = provider.getTracer("trimtab").startSpan("submit", options, context);
  const { traceId, spanId, traceFlags } = span.spanContext();
  return {
    traceparent: `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, "0")}`,
    end: (jobId) => {
      span.setAttribute("trimtab.job.id", jobId).end();
      c.executionCtx.waitUntil(provider.shutdown());
    },
  };
}
