/** Starts an S3-compatible server for one test, with one bucket. It checks signatures and supports multipart uploads. */
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "../../infra/stack/port.ts";

/** The used part of the package, which has no types. */
type S3Server = new (options: {
  readonly address: string;
  readonly port: number;
  readonly silent: boolean;
  readonly directory: string;
  readonly configureBuckets: readonly { readonly name: string }[];
}) => { readonly middleware: Middleware[]; run(): Promise<unknown>; close(): Promise<void> };

/** The used part of a Koa middleware. */
type Middleware = (
  context: {
    readonly method: string;
    readonly query: { uploadId?: string };
    status: number;
    body: string;
  },
  next: () => Promise<void>,
) => Promise<void>;

const BUCKET = "files";
/** The only access key of the server; the secret is the same. */
const KEY = "S3RVER";

export interface S3 {
  /** The environment variables of the bucket, for edge and workers. */
  readonly env: {
    readonly FILES_S3_ENDPOINT: string;
    readonly FILES_S3_REGION: string;
    readonly FILES_S3_ACCESS_KEY_ID: string;
    readonly FILES_S3_SECRET_ACCESS_KEY: string;
  };
  stop(): Promise<void>;
}

export async function startS3(): Promise<S3> {
  const Server = createRequire(import.meta.url)("@20minutes/s3rver") as S3Server;
  const [port, directory] = await Promise.all([freePort(), mkdtemp(join(tmpdir(), "s3-"))]);
  const server = new Server({
    address: "127.0.0.1",
    port,
    silent: true,
    directory,
    configureBuckets: [{ name: BUCKET }],
  });
  // The server cannot abort uploads.
  server.middleware.unshift(async (context, next) => {
    const { uploadId } = context.query;
    if (context.method !== "DELETE" || uploadId === undefined) return next();
    const folder = join(directory, BUCKET, "._S3rver_uploads", uploadId);
    context.status = existsSync(folder) ? 204 : 404;
    if (context.status === 404) context.body = "<Error><Code>NoSuchUpload</Code></Error>";
    await rm(folder, { recursive: true, force: true });
  });
  await server.run();
  return {
    env: {
      FILES_S3_ENDPOINT: `http://127.0.0.1:${port}/${BUCKET}`,
      FILES_S3_REGION: "us-east-1",
      FILES_S3_ACCESS_KEY_ID: KEY,
      FILES_S3_SECRET_ACCESS_KEY: KEY,
    },
    async stop() {
      await server.close();
      await rm(directory, { recursive: true });
    },
  };
}
