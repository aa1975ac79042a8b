/** `/v1/files`: the inputs and results of batches, in the protocol of OpenAI's Files API. */
import * as v from "valibot";
import { BatchLine, BatchResult } from "../../shared/api/batches.ts";
import { AppError } from "../../shared/api/errors.ts";
import { FileDeletion, FileObject, FilePage, FileUpload } from "../../shared/api/files.ts";
import { LIMITS } from "../../shared/api/limits.ts";
import { field } from "../../shared/api/schema.ts";
import { toFileObject, type FileRecord } from "../../shared/files/record.ts";
import { byteStream } from "../http/byte-stream.ts";
import type { AppContext } from "../http/context.ts";
import { PAGE_QUERY, pageLimit, pageReply } from "../http/page.ts";
import { route, type Route } from "../http/route.ts";
import { receiveFile } from "../http/upload.ts";

const FILE_ID = field(v.string(), "The id of a file.", { examples: ["file_0198c2f4e5b07a31"] });

const FILES_QUERY = {
  ...PAGE_QUERY,
  purpose: field(v.optional(v.string()), "Lists only files with this purpose.", {
    examples: ["batch_output"],
  }),
  limit: field(
    v.optional(pageLimit(LIMITS.filesPageMax), String(LIMITS.filesPageMax)),
    "The largest number of files on the page. Maximum and default are OpenAI's.",
    { examples: [50] },
  ),
};

export function fileRoutes(): Route[] {
  return [
    route(
      {
        method: "POST",
        path: "/v1/files",
        operationId: "uploadFile",
        tag: "Batches",
        summary: "Upload a file of requests",
        description: `The file has one request on each line. A tenant may upload ${LIMITS.uploadsPerTenantMax} files at once.`,
        access: { scope: "jobs:write" },
        body: { mediaType: "multipart/form-data", schemas: [FileUpload], examples: [] },
        replies: { 200: { description: "The file.", schema: FileObject } },
        errors: ["storage_unavailable", "rate_limit_exceeded"],
      },
      async (c, { json }) => {
        const { tenant } = c.var.principal;
        const { files } = c.var.stores;
        return json(200, toFileObject(await receiveFile(c.req.raw, files, tenant)));
      },
    ),
    route(
      {
        method: "GET",
        path: "/v1/files",
        operationId: "listFiles",
        tag: "Batches",
        summary: "List files",
        description: "The list contains uploaded files and results of batches.",
        access: { scope: "jobs:read" },
        query: FILES_QUERY,
        replies: { 200: { description: "One page of files.", schema: FilePage } },
      },
      async (c, { query, json }) => {
        const all = await c.var.stores.files.list(c.var.principal.tenant);
        const { purpose } = query;
        const listed = purpose ? all.filter((file) => file.purpose === purpose) : all;
        return json(200, pageReply(listed.map(toFileObject), query));
      },
    ),
    route(
      {
        method: "GET",
        path: "/v1/files/{id}",
        operationId: "getFile",
        tag: "Batches",
        summary: "Read a file's properties",
        description: "The reply contains the file's size and name, and when it is deleted.",
        access: { scope: "jobs:read" },
        params: { id: FILE_ID },
        replies: { 200: { description: "The file.", schema: FileObject } },
      },
      async (c, { params, json }) => json(200, toFileObject(await requireFile(c, params.id))),
    ),
    route(
      {
        method: "GET",
        path: "/v1/files/{id}/content",
        operationId: "getFileContent",
        tag: "Batches",
        summary: "Download a file",
        description: "The reply is the file without changes.",
        access: { scope: "jobs:read" },
        params: { id: FILE_ID },
        replies: {
          200: {
            description: "The bytes.",
            lines: [BatchLine, BatchResult],
            mediaType: "text/plain",
          },
        },
        errors: ["storage_unavailable"],
      },
      async (c, { params }) => {
        const file = await requireFile(c, params.id);
        return byteStream(c, c.var.stores.files.read(file), {
          "Content-Type": "text/plain; charset=utf-8",
          "Content-Length": String(file.bytes),
        });
      },
    ),
    route(
      {
        method: "DELETE",
        path: "/v1/files/{id}",
        operationId: "deleteFile",
        tag: "Batches",
        summary: "Delete a file",
        description: "The file can no longer be read, and no batch can be created from it.",
        access: { scope: "jobs:write" },
        params: { id: FILE_ID },
        replies: { 200: { description: "The file is deleted.", schema: FileDeletion } },
        errors: ["storage_unavailable"],
      },
      async (c, { params, json }) => {
        const file = await requireFile(c, params.id);
        await c.var.stores.files.delete(c.var.principal.tenant, file);
        return json(200, { id: file.id, object: "file", deleted: true });
      },
    ),
  ];
}

/**
 * The caller's file. One of another tenant is reported as not found.
 * @param param the request's field that names the file
 * @throws AppError not_found
 */
export async function requireFile(c: AppContext, id: string, param?: string): Promise<FileRecord> {
  const file = await c.var.stores.files.get(c.var.principal.tenant, id);
  if (file !== null) return file;
  const message = "There is no such file; files are deleted when they expire";
  throw new AppError("not_found", message, param === undefined ? {} : { param });
}
