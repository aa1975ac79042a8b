/** Access to the caller's webhook endpoints and deliveries. Those of another tenant are reported as not found. */
import type { DeliveryRecord } from "../../shared/webhooks/delivery-store.ts";
import type { Endpoint } from "../../shared/webhooks/endpoint-store.ts";
import { AppError } from "../../shared/api/errors.ts";
import type { WebhookDelivery } from "../../shared/api/webhooks.ts";
import type { AppContext } from "../http/context.ts";

/** The caller's endpoint. @throws AppError not_found */
export async function requireEndpoint(c: AppContext, id: string): Promise<Endpoint> {
  const { tenant } = c.var.principal;
  const endpoint = await c.var.stores.endpoints.get(tenant, id);
  if (endpoint === null) throw new AppError("not_found", "There is no such webhook endpoint");
  return endpoint;
}

/** @throws AppError endpoint_disabled */
export function requireEnabled({ disabled }: Endpoint): void {
  if (disabled === null) return;
  const message = `The endpoint is disabled (${disabled.reason}): nothing is sent to it until it is enabled`;
  throw new AppError("endpoint_disabled", message);
}

/** The caller's delivery. @throws AppError not_found */
export async function requireDelivery(c: AppContext, id: string): Promise<DeliveryRecord> {
  const { tenant } = c.var.principal;
  const record = await c.var.stores.deliveries.get(tenant, id);
  if (record === null) {
    throw new AppError("not_found", "There is no such webhook delivery; they are kept for a week");
  }
  return record;
}

/** The delivery as the API returns it. It reads the attempts from Redis. */
export async function toDelivery(c: AppContext, record: DeliveryRecord): Promise<WebhookDelivery> {
  const { tenant } = c.var.principal;
  const { id, endpointId, jobId, nextAtMs } = record;
  return {
    id,
    object: "webhook_delivery",
    message_id: record.messageId,
    type: record.type,
    endpoint: endpointId || null,
    job: jobId || null,
    url: record.url,
    state: record.state,
    created_at: record.createdAtMs / 1000,
    next_attempt_at: nextAtMs === null ? null : nextAtMs / 1000,
    attempts: await c.var.stores.deliveries.attempts(tenant, id),
  };
}
