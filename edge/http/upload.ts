/**
 * Receives an uploaded file as `multipart/form-data`. It is parsed and stored while it arrives, so that only a part of it is
 * in memory at any time. A file that is too long is refused without reading the rest.
 */
import { Busboy, type BusboyFileStream, type BusboyInstance } from "@fastify/busboy";
import { AppError } from "../../shared/api/errors.ts";
import { FileRequest } from "../../shared/api/files.ts";
import { FILE_VERSION, type FileRecord } from "../../shared/files/record.ts";
import type { FileStore } from "../../shared/files/store.ts";
import type { FileWriter } from "../../shared/files/writer.ts";
import { newId } from "../../shared/ids.ts";
import { LIMITS } from "../../shared/api/limits.ts";
import { parseRequest } from "../../shared/submission/validate.ts";
import { bodyChunks } from "./body.ts";

/** Bytes of the form besides the file: its other fields, the headers of all fields, and the boundaries. */
const FORM_BYTES_MAX = 16_384;

interface Form {
  /** Text fields by name. A name with brackets is a member of an object: `expires_after[seconds]`. */
  readonly fields: Map<string, string>;
  name: string | null;
  /** Chunks of the file that are not stored yet. */
  unstored: Uint8Array[];
  /** The first error in the form, or null. */
  error: AppError | null;
}

/** Seconds within which an upload must arrive. */
const UPLOAD_SECONDS_MAX = 3_600;

/** Uploads that this process receives now: each holds up to one part in memory. */
let openUploads = 0;

/**
 * Receives and saves a file. Its room is reserved before its body is read, and given back if it is refused.
 * @throws AppError payload_too_large, invalid_request, rate_limit_exceeded, storage_unavailable, request_timeout
 */
export async function receiveFile(
  request: Request,
  files: FileStore,
  tenant: string,
): Promise<FileRecord> {
  if (openUploads >= LIMITS.uploadsPerProcessMax) {
    const message = "The server receives as many uploads as it can; try again";
    throw new AppError("storage_unavailable", message);
  }
  openUploads++;
  try {
    return await receive(request, files, tenant);
  } finally {
    openUploads--;
  }
}

async function receive(request: Request, files: FileStore, tenant: string): Promise<FileRecord> {
  const { bytesMax } = files;
  // If the header is wrong and the body is longer, readForm finds out.
  const length = Number(request.headers.get("content-length"));
  if (length > bytesMax + FORM_BYTES_MAX) throw tooLarge(bytesMax);
  requireForm(request);
  const id = newId("file");
  const writer = await files.openUpload({ tenant, id, bytesMax: length || null });
  try {
    const form = await readForm(request, writer, bytesMax);
    const { expires_after } = parseRequest(FileRequest, toFields(form.fields));
    if (form.name === null) throw invalid("file is required", "file");
    if (writer.bytes === 0) throw invalid("file must not be empty", "file");
    const place = await writer.end();
    const createdAtMs = await files.now();
    const record: FileRecord = {
      version: FILE_VERSION,
      id,
      name: form.name.slice(0, LIMITS.fileNameCharsMax),
      purpose: "batch",
      bytes: writer.bytes,
      createdAtMs,
      expiresAtMs: createdAtMs + (expires_after?.seconds ?? LIMITS.fileSecondsMax) * 1000,
      place,
    };
    await files.save(tenant, record);
    return record;
  } catch (error) {
    // If Redis has failed, the room is given back when the upload's lease ends.
    await writer.abort().catch(() => {});
    throw error;
  }
}

async function readForm(request: Request, writer: FileWriter, bytesMax: number): Promise<Form> {
  const form: Form = { fields: new Map(), name: null, unstored: [], error: null };
  const parser = formParser(request, form, bytesMax);
  const store = async () => {
    const { unstored } = form;
    form.unstored = [];
    for (const chunk of unstored) await writer.write(chunk);
  };
  let bytes = 0;
  for await (const chunk of bodyChunks(request, UPLOAD_SECONDS_MAX)) {
    bytes += chunk.byteLength;
    if (bytes > bytesMax + FORM_BYTES_MAX) throw tooLarge(bytesMax);
    await new Promise<void>((resolve) => parser.write(chunk, () => resolve()));
    await store();
    // Leaving the loop cancels the body.
    if (form.error) throw form.error;
  }
  await new Promise<void>((resolve) => {
    parser.once("finish", resolve);
    parser.once("error", resolve);
    parser.end();
  });
  await store();
  if (form.error) throw form.error;
  return form;
}

function requireForm(request: Request): void {
  if (/^multipart\/form-data\s*;/i.test(request.headers.get("content-type") ?? "")) return;
  throw invalid("The body must be multipart/form-data");
}

function formParser(request: Request, form: Form, bytesMax: number): BusboyInstance {
  const type = request.headers.get("content-type") ?? "";
  const limits = { files: 1, fileSize: bytesMax, fields: 8, fieldSize: 256, headerPairs: 16 };
  const fail = (error: AppError) => (form.error ??= error);
  const parser = newBusboy(type, limits);
  parser.on("field", (name: string, value: string) => form.fields.set(name, value));
  parser.on("file", (field: string, stream: BusboyFileStream, name: string | undefined) => {
    if (field !== "file")
      fail(invalid(`${field.slice(0, 64)} is not a supported parameter`, field));
    form.name = name ?? "file";
    stream.on("data", (chunk: Uint8Array) => form.unstored.push(chunk));
    stream.on("limit", () => fail(tooLarge(bytesMax)));
    stream.on("error", () => fail(malformed()));
  });
  parser.on("filesLimit", () => fail(invalid("file must be one file", "file")));
  parser.on("fieldsLimit", () => fail(malformed()));
  parser.on("error", () => fail(malformed()));
  return parser;
}

function newBusboy(type: string, limits: object): BusboyInstance {
  try {
    return new Busboy({ headers: { "content-type": type }, limits });
  } catch {
    throw malformed();
  }
}

/** Turns a name `a[b]` into an object `{a: {b}}`, and the text of `seconds` into a number. */
function toFields(fields: ReadonlyMap<string, string>): object {
  const request: Record<string, unknown> = {};
  for (const [name, value] of fields) {
    const [, outer, inner] = /^(\w+)\[(\w+)\]$/.exec(name) ?? [];
    if (outer === undefined || inner === undefined) request[name] = value;
    else {
      const member = inner === "seconds" && /^\d{1,10}$/.test(value) ? Number(value) : value;
      request[outer] = { ...(request[outer] as object | undefined), [inner]: member };
    }
  }
  return request;
}

const malformed = () => invalid("The body is not valid multipart/form-data");

function invalid(message: string, param?: string): AppError {
  return new AppError("invalid_request", message, param === undefined ? {} : { param });
}

function tooLarge(bytesMax: number): AppError {
  const message = `file must have at most ${bytesMax} bytes`;
  return new AppError("payload_too_large", message, { param: "file" });
}
