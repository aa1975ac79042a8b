/**
 * `npm run fuzz`: first hostile requests from a seed, without a stack (requests.ts; FUZZ_SEED and FUZZ_REQUESTS change them); then
 * schemathesis generates requests from the OpenAPI document and sends them to a real stack. It looks for
 * server errors, replies that the document does not allow, requests that are accepted or refused against the document,
 * and calls that work without a key. Arguments go to schemathesis: `npm run fuzz -- --include-path /v1/jobs`.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { openapiDocument } from "../../infra/openapi/document.ts";
import { startEdge } from "../../infra/stack/edge.ts";
import { stopOnInterrupt } from "../../infra/stack/interrupt.ts";
import { errorText } from "../../infra/stack/user-error.ts";
import { Child, stopAllChildren } from "../../infra/stack/process.ts";
import { connectRedis, startRedis } from "../../infra/stack/redis.ts";
import { startWorker } from "../../infra/stack/worker.ts";
import { KeyRegistry } from "../../shared/keys/registry.ts";
import { KeyPolicy } from "../../shared/api/keys.ts";
import { fuzzRequests } from "./requests.ts";
import { installPythonTools } from "../../infra/stack/python-tools.ts";

const VERSION = "4.32.5";
const ROOT = join(import.meta.dirname, "../..");
const FOLDER = join(ROOT, ".trimtab");
/** Requests of each kind for each operation; with this limit a run takes a few minutes. */
const EXAMPLES_MAX = 20;
/** Longer than any reply takes, except a stream, which ends with its job. */
const TIMEOUT_SECONDS = 90;

/** Hostile requests of one run; they take about a minute. */
const REQUESTS = 5_000;

stopOnInterrupt();
try {
  const seed = Number(process.env["FUZZ_SEED"] ?? Date.now() % 1_000_000);
  const requests = Number(process.env["FUZZ_REQUESTS"] ?? REQUESTS);
  console.log(`Hostile requests: ${requests} with FUZZ_SEED=${seed}`);
  console.log(
    `${await fuzzRequests(seed, requests)} were accepted, the others refused as they must be`,
  );
  const programs = installPythonTools(`schemathesis-${VERSION}`, [`schemathesis==${VERSION}`]);
  process.exitCode = await fuzz(programs, process.argv.slice(2));
} catch (error) {
  console.error(errorText(error));
  process.exitCode = 1;
} finally {
  await stopAllChildren();
}

/**
 * Writes the OpenAPI document as Schemathesis reads OpenAPI 3.1: there the schema of a stream is that of one event.
 * @returns the file
 */
function writeDocument(): string {
  const file = join(FOLDER, "fuzz-openapi.json");
  const text = JSON.stringify(openapiDocument(), (name, value: unknown) =>
    name === "text/event-stream"
      ? { schema: (value as StreamMedia).schema.contentSchema.items }
      : value,
  );
  writeFileSync(file, text);
  return file;
}

/** How the document describes a stream: a text whose content is a list of events. */
interface StreamMedia {
  readonly schema: { readonly contentSchema: { readonly items: object } };
}

async function fuzz(programs: string, args: readonly string[]): Promise<number> {
  const { url: redisUrl } = await startRedis();
  const [edge, redis] = await Promise.all([
    startEdge({ redisUrl }),
    connectRedis(redisUrl),
    startWorker({ redisUrl, env: { LOG_LEVEL: "warn" } }),
  ]);
  const scopes: KeyPolicy["scopes"] = ["jobs:write", "jobs:read", "admin"];
  const { key } = await new KeyRegistry(redis).create("fuzz", undefined, { scopes, limits: {} });
  redis.disconnect();
  // Schemathesis writes its files into the current folder.
  process.chdir(FOLDER);
  const schemathesis = new Child({
    name: "schemathesis",
    command: join(programs, "schemathesis"),
    args: [
      "--config-file",
      join(import.meta.dirname, "schemathesis.toml"),
      "run",
      writeDocument(),
      "--url",
      edge.url,
      "--header",
      `Authorization: Bearer ${key}`,
      "--max-examples",
      String(EXAMPLES_MAX),
      "--request-timeout",
      String(TIMEOUT_SECONDS),
      "--continue-on-failure",
      ...args,
    ],
    inherit: true,
  });
  return (await schemathesis.exited).code ?? 1;
}
