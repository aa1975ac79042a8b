/**
 * The entry point of a thread that loads a graph with other adapters while the engine goes on, and then runs it (../decoder/session-server.ts).
 * Reading, stacking and hashing adapters and creating the session would block the engine thread for many steps.
 */
import { parentPort, workerData } from "node:worker_threads";
import { AdapterDecoder } from "../decoder/adapter-decoder.ts";
import type { Decoder } from "../decoder/decoder.ts";
import { ExternalCacheDecoder } from "../decoder/external-cache-decoder.ts";
import { serveSession } from "../decoder/session-server.ts";
import { stackedValues } from "../graph/adapter-columns.ts";
import { hasExactRows } from "../graph/row-probe.ts";
import { adapterFingerprint } from "./fingerprint.ts";
import { graphBytes, findGraph } from "./graph-files.ts";
import type { FromHost, HostAdapter, HostRequest } from "./host-session.ts";
import { readAdapters } from "./lora-adapter.ts";
import { adapterMemory, availableMemory, graphMemory } from "./memory-need.ts";
import { inspectModel, loadSession } from "./model-folder.ts";

const MIB = 2 ** 20;
const port = parentPort!;
const send = (message: FromHost) => port.postMessage(message);

try {
  const { session, adapters } = await load(workerData as HostRequest);
  const { inputMetadata, outputMetadata, outputNames } = session;
  serveSession(session, port);
  send({ type: "ready", metadata: { inputMetadata, outputMetadata, outputNames }, adapters });
} catch (error) {
  send({ type: "failed", reason: error instanceof Error ? error.message : String(error) });
}

async function load({ entry, folders, known, cacheBytesToMove, options }: HostRequest) {
  const fingerprints = new Map(folders.map((folder) => [folder, adapterFingerprint(folder)]));
  for (const { folder, fingerprint } of known) {
    if (fingerprints.has(folder) && fingerprints.get(folder) !== fingerprint) {
      throw new Error(
        `${folder}: the adapter's files have changed since they were loaded: restart needed; give a new version a folder of its own`,
      );
    }
  }
  const place = (folder: string) => fingerprints.get(folder)!;
  const sorted = folders.toSorted((a, b) => (place(a) < place(b) ? -1 : 1));
  const read = readAdapters(sorted).map(({ modules }) => modules);
  const facts = await inspectModel(entry);
  const bytes = graphBytes(findGraph(entry), facts);
  const needed =
    graphMemory({ ...facts, bytes }) + adapterMemory(stackedValues(read)) + cacheBytesToMove;
  const available = availableMemory();
  if (needed > available) {
    const [need, have] = [needed, available].map((all) => Math.ceil(all / MIB));
    throw new Error(
      `${entry.path}: loading it with these adapters, beside itself, needs about ${need} MiB of memory, and ${have} MiB are free`,
    );
  }
  const { dtype, file, path } = entry;
  const { session, decoder } = await loadSession(path, { dtype, file, adapters: read, ...options });
  if (!(decoder instanceof ExternalCacheDecoder)) throw new Error("it can have no adapters");
  const adapters: HostAdapter[] = [];
  for (const [index, folder] of sorted.entries()) {
    const isExact = known.find((each) => each.folder === folder)?.exactRows;
    // The products with A and B have activations that are not rounded, and whose sums may depend on the run.
    const exactRows =
      isExact ??
      (decoder.hasExactRows && (await hasExactRows(new AdapterDecoder(decoder, index) as Decoder)));
    adapters.push({ folder, fingerprint: place(folder), exactRows });
  }
  return { session, adapters };
}
