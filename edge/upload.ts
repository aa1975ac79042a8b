/**
 * Taking a file in: `multipart/form-data`, parsed and stored while it comes, so that no more than a part of it is ever held,
 * and cut off where it is too long.
 */
import { Busboy, type BusboyFileStream, type BusboyInstance } from "@fastify/busboy";
import { AppError } from "../shared/errors.ts";
import { FileRequest } from "../shared/file-contract.ts";
import type { FileRecord, FileStore, FileWriter } from "../shared/file-store.ts";
import { LIMITS } from "../shared/limits.ts";
import { parseRequest } from "../shared/validate.ts";

/** Of the form around a file: its fields, their heads, and the boundaries. */
const FORM_BYTES_MAX = 16_384;

interface Form {
  /** Fields by name; one in brackets belongs to an object: `expires_after[seconds]`. */
  readonly fields: Map<string, string>;
  name: string | null;
  /** Chunks of the file that have not been stored. */
  arrived: Uint8Array[];
  /** Why the form is no good. */
  fault: AppError | null;
}

/** @throws AppError payload_too_large, invalid_request */
export async function receiveFile(
  request: Request,
  files: FileStore,
  id: string,
): Promise<FileRecord> {
  const { bytesMax } = files;
  // Believed only where it refuses: a length that lies low is caught while reading.
  const length = Number(request.headers.get("content-length"));
  if (length > bytesMax + FORM_BYTES_MAX) throw tooLarge(bytesMax);
  const writer = files.writer(id);
  try {
    const form = await readForm(request, writer, bytesMax);
    const { expires_after } = parseRequest(FileRequest, fieldsOf(form.fields));
    if (form.name === null) throw invalid("file is required", "file");
    if (writer.bytes === 0) throw invalid("file must not be empty", "file");
    const createdAtMs = Date.now();
    return {
      id,
      name: form.name.slice(0, LIMITS.fileNameCharsMax),
      purpose: "batch",
      bytes: writer.bytes,
      createdAtMs,
      expiresAtMs: createdAtMs + (expires_after?.seconds ?? LIMITS.fileSecondsMax) * 1000,
      place: await writer.end(),
    };
  } catch (error) {
    await writer.abort();
    throw error;
  }
}

async function readForm(request: Request, writer: FileWriter, bytesMax: number): Promise<Form> {
  const form: Form = { fields: new Map(), name: null, arrived: [], fault: null };
  const parser = parserOf(request, form, bytesMax);
  const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  const store = async () => {
    const { arrived } = form;
    form.arrived = [];
    for (const chunk of arrived) {
      decodable(() => utf8.decode(chunk, { stream: true }));
      await writer.write(chunk);
    }
  };
  let bytes = 0;
  for await (const chunk of request.body ?? []) {
    bytes += chunk.byteLength;
    if (bytes > bytesMax + FORM_BYTES_MAX) throw tooLarge(bytesMax);
    await new Promise<void>((resolve) => parser.write(chunk, () => resolve()));
    await store();
    // Leaving the loop cancels the body.
    if (form.fault) throw form.fault;
  }
  await new Promise<void>((resolve) => {
    parser.once("finish", resolve);
    parser.once("error", resolve);
    parser.end();
  });
  await store();
  decodable(() => utf8.decode());
  if (form.fault) throw form.fault;
  return form;
}

function parserOf(request: Request, form: Form, bytesMax: number): BusboyInstance {
  const type = request.headers.get("content-type") ?? "";
  if (!/^multipart\/form-data\s*;/i.test(type)) {
    throw invalid("The body must be multipart/form-data");
  }
  const limits = { files: 1, fileSize: bytesMax, fields: 8, fieldSize: 256, headerPairs: 16 };
  const fail = (fault: AppError) => (form.fault ??= fault);
  const parser = makeParser(type, limits);
  parser.on("field", (name: string, value: string) => form.fields.set(name, value));
  parser.on("file", (field: string, stream: BusboyFileStream, name: string | undefined) => {
    if (field !== "file")
      fail(invalid(`${field.slice(0, 64)} is not a supported parameter`, field));
    form.name = name ?? "file";
    stream.on("data", (chunk: Uint8Array) => form.arrived.push(chunk));
    stream.on("limit", () => fail(tooLarge(bytesMax)));
    stream.on("error", () => fail(malformed()));
  });
  parser.on("filesLimit", () => fail(invalid("file must be one file", "file")));
  parser.on("fieldsLimit", () => fail(malformed()));
  parser.on("error", () => fail(malformed()));
  return parser;
}

function makeParser(type: string, limits: object): BusboyInstance {
  try {
    return new Busboy({ headers: { "content-type": type }, limits });
  } catch {
    throw malformed();
  }
}

/** From `a[b]` to `{a: {b}}`; a number is written as text. */
function fieldsOf(fields: ReadonlyMap<string, string>): object {
  const request: Record<string, unknown> = {};
  for (const [name, value] of fields) {
    const [, outer, inner] = /^(\w+)\[(\w+)\]$/.exec(name) ?? [];
    if (outer === undefined || inner === undefined) request[name] = value;
    else {
      const said = inner === "seconds" && /^\d{1,10}$/.test(value) ? Number(value) : value;
      request[outer] = { ...(request[outer] as object | undefined), [inner]: said };
    }
  }
  return request;
}

function decodable(decode: () => unknown): void {
  try {
    decode();
  } catch {
    throw invalid("file must be UTF-8", "file");
  }
}

const malformed = () => invalid("The body is not valid multipart/form-data");

function invalid(message: string, param?: string): AppError {
  return new AppError("invalid_request", message, param === undefined ? {} : { param });
}

function tooLarge(bytesMax: number): AppError {
  const message = `file must have at most ${bytesMax} bytes`;
  return new AppError("payload_too_large", message, { param: "file" });
}
