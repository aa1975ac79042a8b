/** A bucket of an S3-compatible store (AWS, R2, MinIO, …), for files that are too long for Redis. */
import * as v from "valibot";
import { S3mini, type UploadPart } from "s3mini";

/** The variables that name a bucket; on both sides the same. Without an endpoint there is none. */
export const bucketVariables = {
  /** URL of the bucket: `https://<account>.r2.cloudflarestorage.com/<bucket>`. */
  FILES_S3_ENDPOINT: v.optional(v.pipe(v.string(), v.url())),
  FILES_S3_REGION: v.optional(v.string(), "auto"),
  FILES_S3_ACCESS_KEY_ID: v.optional(v.string(), ""),
  FILES_S3_SECRET_ACCESS_KEY: v.optional(v.string(), ""),
};
type BucketVariables = v.InferOutput<v.ObjectSchema<typeof bucketVariables, undefined>>;

/** Bytes of each part of an object but the last. S3 wants 5 MiB or more, R2 all of one length. */
export const PART_BYTES = 8 * 2 ** 20;

export type Part = UploadPart;

export class Bucket {
  readonly #s3: S3mini;

  constructor(endpoint: string, env: Omit<BucketVariables, "FILES_S3_ENDPOINT">) {
    this.#s3 = new S3mini({
      endpoint,
      region: env.FILES_S3_REGION,
      accessKeyId: env.FILES_S3_ACCESS_KEY_ID,
      secretAccessKey: env.FILES_S3_SECRET_ACCESS_KEY,
      // A global that is called as a method of another object is an error in workerd.
      fetch: (input, init) => fetch(input, init),
    });
  }

  /** Begins an object that comes in parts. @returns the upload's id */
  begin(name: string): Promise<string> {
    return this.#s3.getMultipartUploadId(name, "application/jsonl");
  }

  /** Idempotent. @param number from 1 */
  part(name: string, uploadId: string, number: number, bytes: Uint8Array): Promise<Part> {
    return this.#s3.uploadPart(name, uploadId, bytes as Uint8Array<ArrayBuffer>, number);
  }

  /** Makes the parts one object. Idempotent: a name is given once, so an object of that name is of this upload. */
  async complete(name: string, uploadId: string, parts: readonly Part[]): Promise<void> {
    try {
      await this.#s3.completeMultipartUpload(name, uploadId, [...parts]);
    } catch (error) {
      // Stores differ in how they refuse an upload that is over.
      if (!(await this.#s3.objectExists(name))) throw error;
    }
  }

  async abort(name: string, uploadId: string): Promise<void> {
    await this.#s3.abortMultipartUpload(name, uploadId);
  }

  /** Bytes from `from` up to, without, `to`. */
  async *read(name: string, from: number, to: number): AsyncGenerator<Uint8Array> {
    const { body } = await this.#s3.getObjectRaw(name, false, from, to);
    if (body) yield* body;
  }

  /** Idempotent. */
  async delete(name: string): Promise<void> {
    await this.#s3.deleteObject(name);
  }
}

/** The bucket that the variables name, or null. */
export function bucketOf({ FILES_S3_ENDPOINT, ...env }: BucketVariables): Bucket | null {
  return FILES_S3_ENDPOINT === undefined ? null : new Bucket(FILES_S3_ENDPOINT, env);
}
