/**
 * OpenTelemetry: spans go out as OTLP over HTTP where an endpoint is configured; elsewhere they cost nothing. Headers,
 * timeouts and attributes of the resource are read by the SDK from its own variables (OTEL_*).
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

/** One batch a second, so that little is lost with a process that is killed. */
const EXPORT_MS = 1_000;

/** Does nothing until tracing is started. */
export const tracer: Tracer = trace.getTracer("trimtab");

/** @returns a function that sends what is left */
export function startTracing(): () => Promise<void> {
  const service = resourceFromAttributes({ "service.name": "trimtab-worker" });
  const resource = defaultResource()
    .merge(service)
    .merge(detectResources({ detectors: [envDetector] }));
  const exporter = new OTLPTraceExporter();
  const processor = new BatchSpanProcessor({ exporter, scheduledDelayMillis: EXPORT_MS });
  const provider = new TracerProvider({ resource, spanProcessors: [processor] });
  trace.setGlobalTracerProvider(provider);
  return () => provider.shutdown();
}

/** Where the spans belong of what a request with this `traceparent` has led to; a new trace where there is none. */
export function contextOf(traceparent: string | undefined): Context {
  const parent = traceparent && parseTraceParent(traceparent);
  return parent ? trace.setSpanContext(ROOT_CONTEXT, { ...parent, isRemote: true }) : ROOT_CONTEXT;
}
