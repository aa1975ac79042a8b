/** A bucket of an S3-compatible object store (AWS, R2, MinIO, …), for files that are too long for Redis. */
import * as v from "valibot";
import { S3mini, type UploadPart } from "s3mini";

/** The environment variables of the bucket, the same for edge and workers. Without an endpoint there is no bucket. */
export const bucketVariables = {
  /** URL of the bucket: `https://<account>.r2.cloudflarestorage.com/<bucket>`. Default: none. */
  FILES_S3_ENDPOINT: v.optional(v.pipe(v.string(), v.url())),
  /** Region that requests to the bucket are signed for. Default: auto. */
  FILES_S3_REGION: v.optional(v.string(), "auto"),
  /** Name of the key that signs requests to the bucket. Default: empty. */
  FILES_S3_ACCESS_KEY_ID: v.optional(v.string(), ""),
  /** That key. Default: empty; a secret. */
  FILES_S3_SECRET_ACCESS_KEY: v.optional(v.string(), ""),
};
type BucketVariables = v.InferOutput<v.ObjectSchema<typeof bucketVariables, undefined>>;

/** Bytes of each part of a multipart upload except the last. S3 needs at least 5 MiB, R2 parts of equal length. */
export const PART_BYTES = 5 * 2 ** 20;

export type Part = UploadPart;

export class Bucket {
  readonly #s3: S3mini;

  constructor(endpoint: string, env: Omit<BucketVariables, "FILES_S3_ENDPOINT">) {
    this.#s3 = new S3mini({
      endpoint,
      region: env.FILES_S3_REGION,
      accessKeyId: env.FILES_S3_ACCESS_KEY_ID,
      secretAccessKey: env.FILES_S3_SECRET_ACCESS_KEY,
      // workerd throws if the global fetch is called as a method of another object.
      fetch: (input, init) => fetch(input, init),
    });
  }

  /** Begins an object that is uploaded in parts. @returns the upload's id */
  begin(name: string): Promise<string> {
    return withBucketError(this.#s3.getMultipartUploadId(name, "application/jsonl"));
  }

  /** Uploads one part. Idempotent. @param number from 1 */
  part(name: string, uploadId: string, number: number, bytes: Uint8Array): Promise<Part> {
    return withBucketError(
      this.#s3.uploadPart(name, uploadId, bytes as Uint8Array<ArrayBuffer>, number),
    );
  }

  /** Joins the parts into one object. Idempotent: no name is used twice, so an object of that name is from this upload. */
  async complete(name: string, uploadId: string, parts: readonly Part[]): Promise<void> {
    try {
      await withBucketError(this.#s3.completeMultipartUpload(name, uploadId, [...parts]));
    } catch (error) {
      // Some stores report an error if the upload was completed before.
      if (!(await withBucketError(this.#s3.objectExists(name)))) throw error;
    }
  }

  async abort(name: string, uploadId: string): Promise<void> {
    await withBucketError(this.#s3.abortMultipartUpload(name, uploadId));
  }

  /** Removes an upload, in whatever state it is: open, complete or gone. Idempotent. */
  async discard(name: string, uploadId: string): Promise<void> {
    const aborted = await this.abort(name, uploadId).catch((error: unknown) => error);
    await this.delete(name);
    // The bucket works. An upload that is complete or gone cannot be aborted.
    if (aborted instanceof BucketError && !/NoSuchUpload|404/.test(aborted.message)) throw aborted;
  }

  /** The bytes from index `from` up to, but without, index `to`. */
  async *read(name: string, from: number, to: number): AsyncGenerator<Uint8Array> {
    const { body } = await withBucketError(this.#s3.getObjectRaw(name, false, from, to));
    try {
      if (body) yield* body;
    } catch (cause) {
      throw new BucketError(cause);
    }
  }

  /** Idempotent. */
  async delete(name: string): Promise<void> {
    await withBucketError(this.#s3.deleteObject(name));
  }
}

/** The store behind the bucket could not be reached, or refused a request. */
export class BucketError extends Error {
  override readonly name = "BucketError";

  constructor(cause: unknown) {
    super(cause instanceof Error ? cause.message : String(cause), { cause });
  }
}

/** The promise, rejecting with a BucketError instead of any other error. */
async function withBucketError<T>(promise: Promise<T>): Promise<T> {
  try {
    return await promise;
  } catch (cause) {
    throw new BucketError(cause);
  }
}

/** The bucket that the environment variables describe, or null. */
export function bucketOf({ FILES_S3_ENDPOINT, ...env }: BucketVariables): Bucket | null {
  return FILES_S3_ENDPOINT === undefined ? null : new Bucket(FILES_S3_ENDPOINT, env);
}
