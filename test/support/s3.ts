/** An S3-compatible server of a test's own, with one bucket: it checks signatures, and puts parts together. */
import { mkdtemp, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "../../infra/stack/port.ts";

/** As much of it as is used here; it comes without types. */
type S3Server = new (options: {
  readonly address: string;
  readonly port: number;
  readonly silent: boolean;
  readonly directory: string;
  readonly configureBuckets: readonly { readonly name: string }[];
}) => { run(): Promise<unknown>; close(): Promise<void> };

const BUCKET = "files";
/** The only one that the server knows. */
const KEY = "S3RVER";

export interface S3 {
  /** The variables that name the bucket, for both sides. */
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
