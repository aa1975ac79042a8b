/**
 * OpenTelemetry: sends spans as OTLP over HTTP if an endpoint is configured; otherwise spans are not recorded and cost
 * nothing. The SDK reads headers, timeouts and resource attributes from its own variables (OTEL_*).
 */
import { ROOT_CONTEXT, trace, type Context, type Tracer } from "@opentelemetry/api";
import { parseTraceParent } from "@opentelemetry/core";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-http";
import {
  defaultResource,
  detectResources,
  envDetector,
  resourceFromAttributes,
} from "@opentelemetry/resources";
import { BatchSpanProcessor, TracerProvider } from "@opentelemetry/sdk-trace";

/** Spans are sent once a second, so that a process that is killed loses few of them. */
const EXPORT_INTERVAL_MS = 1_000;

/** Creates spans. They are not recorded until startTracing is called. */
export const tracer: Tracer = trace.getTracer("trimtab");

/** Starts recording and sending. @returns a function that sends the remaining spans and stops */
export function startTracing(): () => Promise<void> {
  const service = resourceFromAttributes({ "service.name": "trimtab-worker" });
  const resource = defaultResource()
    .merge(service)
    .merge(detectResources({ detectors: [envDetector] }));
  const exporter = new OTLPTraceExporter();
  const processor = new BatchSpanProcessor({ exporter, scheduledDelayMillis: EXPORT_INTERVAL_MS });
  const provider = new TracerProvider({ resource, spanProcessors: [processor] });
  trace.setGlobalTracerProvider(provider);
  return () => provider.shutdown();
}

/** The context in which to start the spans of a request with this `traceparent` header; without it they start a new trace. */
export function traceContextOf(traceparent: string | undefined): Context {
  const parent = traceparent && parseTraceParent(traceparent);
  return parent ? trace.setSpanContext(ROOT_CONTEXT, { ...parent, isRemote: true }) : ROOT_CONTEXT;
}
