/** `/v1/files`: what batches read and write, in OpenAI's words. A file of another tenant is one that does not exist. */
import { Hono } from "hono";
import { newId } from "../../shared/api-key.ts";
import { AppError } from "../../shared/errors.ts";
import { toFileObject, type FileRecord } from "../../shared/file-store.ts";
import { LIMITS } from "../../shared/limits.ts";
import { byteStream } from "../byte-stream.ts";
import type { AppContext, AppEnv } from "../context.ts";
import { pageOf } from "../page.ts";
import { receiveFile } from "../upload.ts";

export function fileRoutes(): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();

  routes.post("/", async (c) => {
    const { tenant } = c.var.principal;
    const file = await c.var.backend.files(async (files) => {
      requireRoom(await files.all(tenant));
      const file = await receiveFile(c.req.raw, files, newId("file"));
      await files.save(tenant, file);
      return file;
    });
    return c.json(toFileObject(file));
  });

  routes.get("/", async (c) => {
    const { tenant } = c.var.principal;
    const purpose = c.req.query("purpose");
    const all = await c.var.backend.files((files) => files.all(tenant));
    const asked = purpose ? all.filter((file) => file.purpose === purpose) : all;
    const { page, has_more } = pageOf(c, asked.map(toFileObject), ({ id }) => id);
    const ends = { first_id: page[0]?.id ?? null, last_id: page.at(-1)?.id ?? null };
    return c.json({ object: "list", data: page, ...ends, has_more });
  });

  routes.get("/:id", async (c) => c.json(toFileObject(await requireFile(c, c.req.param("id")))));

  routes.get("/:id/content", async (c) => {
    const file = await requireFile(c, c.req.param("id"));
    return byteStream(c, c.var.backend.content(file), {
      "Content-Type": "text/plain; charset=utf-8",
      "Content-Length": String(file.bytes),
    });
  });

  routes.delete("/:id", async (c) => {
    const file = await requireFile(c, c.req.param("id"));
    await c.var.backend.files((files) => files.delete(c.var.principal.tenant, file));
    return c.json({ id: file.id, object: "file", deleted: true });
  });

  return routes;
}

/** @throws AppError not_found */
export async function requireFile(c: AppContext, id: string, param?: string): Promise<FileRecord> {
  const file = await c.var.backend.files((files) => files.one(c.var.principal.tenant, id));
  if (file !== null) return file;
  const message = "There is no such file; files are deleted when they expire";
  throw new AppError("not_found", message, param === undefined ? {} : { param });
}

/** @throws AppError invalid_request */
function requireRoom(files: readonly FileRecord[]): void {
  const { filesPerTenantMax, filesInRedisBytesMax } = LIMITS;
  const inRedis = files.filter(({ place }) => place === "redis");
  const bytes = inRedis.reduce((sum, file) => sum + file.bytes, 0);
  if (files.length < filesPerTenantMax && bytes < filesInRedisBytesMax) return;
  const message = `A tenant has at most ${filesPerTenantMax} files, and ${filesInRedisBytesMax} bytes of short ones; delete some`;
  throw new AppError("invalid_request", message);
}
