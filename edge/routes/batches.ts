/** `/v1/batches`: files of requests that are answered within a day, in OpenAI's words. Workers run them. */
import { Hono } from "hono";
import { newId } from "../../shared/api-key.ts";
import { BatchRequest } from "../../shared/batch-contract.ts";
import { toBatch, type BatchRecord } from "../../shared/batch-store.ts";
import { AppError } from "../../shared/errors.ts";
import { LIMITS } from "../../shared/limits.ts";
import { parseRequest } from "../../shared/validate.ts";
import { readJson } from "../body.ts";
import type { AppContext, AppEnv } from "../context.ts";
import { repetitionOf, reusedError } from "../idempotency.ts";
import { pageOf } from "../page.ts";
import { requireFile } from "./files.ts";

export function batchRoutes(): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();

  routes.post("/", async (c) => {
    const request = parseRequest(BatchRequest, await readJson(c.req.raw));
    const { backend, principal } = c.var;
    const input = await requireFile(c, request.input_file_id, "input_file_id");
    const repetition = await repetitionOf(c, request);
    const batch = {
      id: newId("batch"),
      tenant: principal.tenant,
      keyId: principal.id,
      endpoint: request.endpoint,
      inputFileId: input.id,
      metadata: request.metadata ?? {},
      createdAtMs: Date.now(),
      fileSeconds: request.output_expires_after?.seconds ?? LIMITS.fileSecondsMax,
    };
    const { status, id } = await backend.batches((batches) => batches.create(batch, repetition));
    if (status === "conflict") throw reusedError();
    if (status === "existing") c.header("Idempotent-Replayed", "true");
    if (status === "full") {
      const message = `A tenant has at most ${LIMITS.openBatchesMax} batches that have not ended`;
      throw new AppError("invalid_request", message);
    }
    // Should this fail, the workers find the batch after a while.
    await backend.enqueueBatch(id);
    return c.json(toBatch(await requireBatch(c, id)));
  });

  routes.get("/", async (c) => {
    const { tenant } = c.var.principal;
    const all = await c.var.backend.batches((batches) => batches.all(tenant));
    const { page, has_more } = pageOf(c, all.map(toBatch), ({ id }) => id);
    const ends = { first_id: page[0]?.id ?? null, last_id: page.at(-1)?.id ?? null };
    return c.json({ object: "list", data: page, ...ends, has_more });
  });

  routes.get("/:id", async (c) => c.json(toBatch(await requireBatch(c, c.req.param("id")))));

  routes.post("/:id/cancel", async (c) => {
    const { id } = await requireBatch(c, c.req.param("id"));
    await c.var.backend.batches((batches) => batches.cancel(id));
    return c.json(toBatch(await requireBatch(c, id)));
  });

  return routes;
}

/** The caller's batch; whether a foreign one exists must not show. @throws AppError not_found */
async function requireBatch(c: AppContext, id: string): Promise<BatchRecord> {
  const batch = await c.var.backend.batches((batches) => batches.one(id));
  if (batch !== null && batch.tenant === c.var.principal.tenant) return batch;
  throw new AppError("not_found", "There is no such batch; ended ones are deleted after a while");
}
