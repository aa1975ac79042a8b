/** Files: the form of an upload, and the file as its owner sees it. */
import * as v from "valibot";
import { LIMITS } from "./limits.ts";
import { deletionSchema, pageSchema } from "./lists.ts";
import { count, EXAMPLE_TIME, field, integer, type Reply } from "./schema.ts";

const anchor = field(
  v.literal("created_at"),
  "The moment from which the seconds count: `created_at`.",
);
const seconds = field(
  integer(LIMITS.fileSecondsMin, LIMITS.fileSecondsMax),
  "Seconds after which the file is deleted: an hour to 30 days.",
  { examples: [86_400] },
);

export const ExpiresAfter = v.strictObject({ anchor, seconds });

const purpose = field(v.literal("batch"), "What the file is for: `batch`.");

/** The fields of `POST /v1/files` besides the file. */
export const FileRequest = v.strictObject({
  purpose,
  expires_after: field(
    v.optional(ExpiresAfter),
    "When the file is deleted. The default is 30 days after its creation.",
  ),
});

/** `POST /v1/files` as a form (`multipart/form-data`) spells it. */
export const FileUpload = v.strictObject({
  file: field(
    v.blob(),
    "The file: JSONL in UTF-8, one `BatchLine` on each line. At most 200 MB, or 8 MiB on a server without a bucket.",
  ),
  purpose,
  "expires_after[anchor]": field(v.optional(anchor), "The moment from which the seconds count."),
  "expires_after[seconds]": field(
    v.optional(seconds),
    "Seconds after which the file is deleted: an hour to 30 days.",
    { default: LIMITS.fileSecondsMax },
  ),
});

export const FileObject = v.strictObject({
  id: field(v.string(), "The file's id.", { examples: ["file_0198c2f4e5b07a31"] }),
  object: field(v.literal("file"), "The type of this object: `file`."),
  bytes: field(count, "The file's size in bytes.", { examples: [18_432] }),
  created_at: field(count, "When the file was created, as a Unix time in seconds.", {
    examples: [EXAMPLE_TIME],
  }),
  expires_at: field(count, "When the file will be deleted, as a Unix time in seconds.", {
    examples: [EXAMPLE_TIME + LIMITS.fileSecondsMax],
  }),
  filename: field(v.string(), "The file's name, up to 256 characters.", {
    examples: ["requests.jsonl"],
  }),
  purpose: field(
    v.picklist(["batch", "batch_output"]),
    "`batch` for an uploaded file of requests, `batch_output` for a batch's results.",
  ),
  status: field(v.literal("processed"), "Always `processed`."),
});
export type FileObject = Reply<typeof FileObject>;

export const FileDeletion = deletionSchema("file");

/** `GET /v1/files` */
export const FilePage = pageSchema(FileObject);
