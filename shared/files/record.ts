/** A file as it is stored in Redis. */
import * as v from "valibot";
import type { FileObject } from "../api/files.ts";
import { fromJson } from "../redis/fields.ts";
import { parseRecord, versionField } from "../redis/version.ts";

const FilePurpose = v.picklist(["batch", "batch_output"]);
export type FilePurpose = v.InferOutput<typeof FilePurpose>;

/** Version of file records (redis/version.ts). */
export const FILE_VERSION = 1;

const FileRecord = v.strictObject({
  version: versionField(FILE_VERSION),
  id: v.string(),
  name: v.string(),
  purpose: FilePurpose,
  bytes: v.number(),
  createdAtMs: v.number(),
  expiresAtMs: v.number(),
  place: v.picklist(["redis", "bucket"]),
});
export type FileRecord = v.InferOutput<typeof FileRecord>;

const StoredFile = v.pipe(fromJson, FileRecord);

/** @throws NewerRecord */
export const parseFileRecord = (json: string) => parseRecord(StoredFile, json);

/** The file as the API returns it. */
export function toFileObject(record: FileRecord): FileObject {
  return {
    id: record.id,
    object: "file",
    bytes: record.bytes,
    created_at: Math.floor(record.createdAtMs / 1000),
    expires_at: Math.floor(record.expiresAtMs / 1000),
    filename: record.name,
    purpose: record.purpose,
    status: "processed",
  };
}
