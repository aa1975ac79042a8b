/** A tenant's endpoints and deliveries, as several routes need them: another tenant's are ones that do not exist. */
import type { DeliveryRecord } from "../shared/delivery-store.ts";
import type { Endpoint } from "../shared/endpoint-store.ts";
import { AppError } from "../shared/errors.ts";
import type { WebhookDelivery } from "../shared/webhook-contract.ts";
import type { AppContext } from "./context.ts";

/** The caller's endpoint. @throws AppError not_found */
export async function requireEndpoint(c: AppContext, id: string): Promise<Endpoint> {
  const { tenant } = c.var.principal;
  const endpoint = await c.var.backend.webhooks(({ endpoints }) => endpoints.one(tenant, id));
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
  const record = await c.var.backend.webhooks(({ deliveries }) => deliveries.one(tenant, id));
  if (record === null) {
    throw new AppError("not_found", "There is no such webhook delivery; they are kept for a week");
  }
  return record;
}

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
    attempts: await c.var.backend.webhooks(({ deliveries }) => deliveries.attempts(tenant, id)),
  };
}
