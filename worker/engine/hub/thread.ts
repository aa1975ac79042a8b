/**
 * The entry point of a thread that gets a manifest's repositories before the models are loaded. It ends then. Files are compared
 * with their hashes, which would block the main thread.
 */
import { parentPort, workerData } from "node:worker_threads";
import type { EngineOptions, FromPull } from "../../engine-client/messages.ts";
import { readManifestRepositories } from "../model/manifest.ts";
import { hubCache } from "../model/hub-cache.ts";
import { hubFromEnv } from "./hub.ts";
import { pullMissing } from "./pull-missing.ts";

const send = (message: FromPull) => parentPort!.postMessage(message);
const { manifestFile, manifestText } = workerData as EngineOptions;

try {
  await pullMissing(readManifestRepositories(manifestFile, manifestText), {
    hub: hubFromEnv(),
    cache: hubCache(),
    onProgress: (progress) => send({ type: "loading", progress }),
  });
  send({ type: "ready" });
} catch (error) {
  send({ type: "startFailed", reason: error instanceof Error ? error.message : String(error) });
}
