/** `/v1/batches`: files of requests that workers answer within a day, in the protocol of OpenAI's Batch API. */
import * as v from "valibot";
import { Batch, BatchPage, BatchRequest } from "../../shared/api/batches.ts";
import { AppError } from "../../shared/api/errors.ts";
import { LIMITS } from "../../shared/api/limits.ts";
import { field } from "../../shared/api/schema.ts";
import { toBatch } from "../../shared/batches/batch-reply.ts";
import type { BatchRecord } from "../../shared/batches/record.ts";
import { newId } from "../../shared/ids.ts";
import type { AppContext } from "../http/context.ts";
import { PAGE_QUERY, pageReply } from "../http/page.ts";
import { jsonBody, route, type Route } from "../http/route.ts";
import { IDEMPOTENCY, idempotencyClaim, idempotencyConflict } from "../requests/idempotency.ts";
import { requireFile } from "./files.ts";

const BATCH_ID = field(v.string(), "The id of a batch.", {
  examples: ["batch_0198c2f4e5b07a31"],
});

const EXAMPLE = {
  input_file_id: "file_0198c2f4e5b07a31",
  endpoint: "/v1/chat/completions",
  completion_window: "24h",
};

export function batchRoutes(): Route[] {
  return [
    route(
      {
        method: "POST",
        path: "/v1/batches",
        operationId: "createBatch",
        tag: "Batches",
        summary: "Create a batch",
        description: "Workers answer the requests of an uploaded file within a day.",
        access: { scope: "jobs:write" },
        body: jsonBody(BatchRequest, EXAMPLE),
        uses: [IDEMPOTENCY],
        replies: { 200: { description: "The batch.", schema: Batch } },
        errors: ["not_found"],
      },
      async (c, { body, json }) => {
        const { principal, stores } = c.var;
        const idempotency = await idempotencyClaim(c, body);
        const input = await requireFile(c, body.input_file_id, "input_file_id");
        const batch = {
          id: newId("batch"),
          tenant: principal.tenant,
          keyId: principal.id,
          endpoint: body.endpoint,
          inputFileId: input.id,
          metadata: body.metadata ?? {},
          fileSeconds: body.output_expires_after?.seconds ?? LIMITS.fileSecondsMax,
        };
        const { status, id } = await stores.batches.create(batch, idempotency);
        if (status === "conflict") throw idempotencyConflict();
        if (status === "existing") c.header("Idempotent-Replayed", "true");
        if (status === "full") {
          const message = `A tenant may have at most ${LIMITS.openBatchesMax} batches that have not ended; wait for one to end, or cancel one`;
          throw new AppError("invalid_request", message);
        }
        // If this fails, the workers find the batch a little later.
        await stores.enqueueBatch(id);
        return json(200, toBatch(await requireBatch(c, id)));
      },
    ),
    route(
      {
        method: "GET",
        path: "/v1/batches",
        operationId: "listBatches",
        tag: "Batches",
        summary: "List batches",
        description: "Batches are deleted 30 days after their end.",
        access: { scope: "jobs:read" },
        query: PAGE_QUERY,
        replies: { 200: { description: "One page of batches.", schema: BatchPage } },
      },
      async (c, { query, json }) => {
        const all = await c.var.stores.batches.list(c.var.principal.tenant);
        return json(200, pageReply(all.map(toBatch), query));
      },
    ),
    route(
      {
        method: "GET",
        path: "/v1/batches/{id}",
        operationId: "getBatch",
        tag: "Batches",
        summary: "Read a batch",
        description: "The reply contains the number of requests that have a result so far.",
        access: { scope: "jobs:read" },
        params: { id: BATCH_ID },
        replies: { 200: { description: "The batch.", schema: Batch } },
      },
      async (c, { params, json }) => json(200, toBatch(await requireBatch(c, params.id))),
    ),
    route(
      {
        method: "POST",
        path: "/v1/batches/{id}/cancel",
        operationId: "cancelBatch",
        tag: "Batches",
        summary: "Cancel a batch",
        description: "Cancelling a batch keeps the results so far.",
        access: { scope: "jobs:write" },
        params: { id: BATCH_ID },
        replies: { 200: { description: "The batch.", schema: Batch } },
      },
      async (c, { params, json }) => {
        const { id } = await requireBatch(c, params.id);
        await c.var.stores.batches.cancel(id);
        return json(200, toBatch(await requireBatch(c, id)));
      },
    ),
  ];
}

/** The caller's batch. One of another tenant is reported as not found. @throws AppError not_found */
async function requireBatch(c: AppContext, id: string): Promise<BatchRecord> {
  const batch = await c.var.stores.batches.get(id);
  if (batch !== null && batch.tenant === c.var.principal.tenant) return batch;
  throw new AppError(
    "not_found",
    "There is no such batch; batches are deleted 30 days after their end",
  );
}
