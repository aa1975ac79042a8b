/** Getting a model from a hub, and what a manifest makes of it. */
import { createHash } from "node:crypto";
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, test, vi } from "vitest";
import { pull, type PullOptions } from "../../../../worker/engine/hub/pull.ts";
import { readManifest } from "../../../../worker/engine/model/manifest.ts";
import { loadDecoder } from "../../../../worker/engine/model/model-folder.ts";
import { moveWeights } from "../../../support/external-weights.ts";
import { COMMIT, HubServer, type HubOptions } from "../../../support/hub-server.ts";
import { copyOf } from "../../../support/model-folder.ts";
import { folderOf } from "../../../support/tokenizers.ts";

const NAME = "acme/tiny.model-1";

function modelFiles(): Record<string, Buffer> {
  const folder = copyOf("llama/base");
  moveWeights(join(folder, "onnx/model.onnx"), join(folder, "onnx/model.onnx_data"));
  const read = (name: string) => readFileSync(join(folder, name));
  return {
    "README.md": Buffer.from("# A model"),
    "config.json": read("config.json"),
    "tokenizer.json": Buffer.from('{"model": {}}'),
    "onnx/model.onnx": read("onnx/model.onnx"),
    "onnx/model.onnx_data": read("onnx/model.onnx_data"),
    "onnx/model_q4.onnx": Buffer.alloc(5_000, "4"),
    "model.safetensors": Buffer.alloc(9_000, "s"),
  };
}
const FILES = modelFiles();
const WANTED = ["config.json", "onnx/model.onnx", "onnx/model.onnx_data", "tokenizer.json"];
const DATA = "onnx/model.onnx_data";

const running: HubServer[] = [];
afterEach(async () => {
  for (const server of running.splice(0)) await server.stop();
  vi.unstubAllEnvs();
});

async function startHub(options: Partial<HubOptions> = {}): Promise<HubServer> {
  const server = new HubServer({ name: NAME, files: FILES, ...options });
  running.push(server);
  await server.start();
  return server;
}

const optionsFor = (server: HubServer, changes: Partial<PullOptions> = {}): PullOptions => ({
  hub: { endpoint: server.url, token: null },
  cache: folderOf({}),
  dtypes: ["fp32"],
  onProgress: () => {},
  onPlan: () => {},
  ...changes,
});

test("only the files that a model needs arrive, in the layout of the cache, and they run", async () => {
  const server = await startHub();
  const planned: [string[], number][] = [];
  const options = optionsFor(server, {
    onPlan: (files, bytes) => planned.push([files.map(({ path }) => path), bytes]),
  });
  const { folder, commit, files } = await pull(NAME, options);
  expect(files.toSorted()).toEqual(WANTED);
  expect(commit).toBe(COMMIT);
  expect(server.transfers.map(({ path }) => path).toSorted()).toEqual(WANTED);
  expect(planned[0]![0].toSorted()).toEqual(WANTED);
  expect(planned[0]![1]).toBe(WANTED.reduce((sum, name) => sum + FILES[name]!.length, 0));
  for (const name of WANTED) {
    expect(readlinkSync(join(folder, name))).toMatch(/blobs\/[0-9a-f]{40,64}$/);
    expect(readFileSync(join(folder, name)).equals(FILES[name]!)).toBe(true);
  }
  const repository = join(options.cache, "models--acme--tiny.model-1");
  expect(readFileSync(join(repository, "refs/main"), "utf8")).toBe(COMMIT);
  expect(readdirSync(join(repository, "blobs"))).toHaveLength(WANTED.length);
  const decoder = await loadDecoder(folder, { dtype: "fp32", intraOpThreads: 1 });
  expect(decoder.fallbackReason).toBeNull();
});

test("what is in the cache does not arrive again", async () => {
  const server = await startHub();
  const options = optionsFor(server);
  await pull(`${NAME}@v1`, options);
  const count = server.transfers.length;
  const { folder } = await pull(`${NAME}@${COMMIT}`, { ...options, dtypes: ["fp32", "q4"] }).catch(
    (error: unknown) => ({ folder: String(error) }),
  );
  // The file of the other format is no graph, which is found after it has arrived.
  expect(folder).toMatch(/Error/);
  expect(server.transfers.slice(count).map(({ path }) => path)).toEqual(["onnx/model_q4.onnx"]);
});

describe("transfers", () => {
  test("that break go on where they ended, and end with the right bytes", async () => {
    const server = await startHub();
    const options = optionsFor(server);
    const busy = { kind: "status", retryAfter: "0" } as const;
    server.troubles.push({ ...busy, status: 503 }, { ...busy, status: 429 });
    const progress: number[] = [];
    const { folder } = await pull(NAME, {
      ...options,
      onProgress: ({ path }, bytes) => {
        if (path === DATA) {
          progress.push(bytes);
          server.clientHas(bytes);
        }
        // The next request for contents is that of the weights.
        if (path === "onnx/model.onnx" && bytes === FILES[path]!.length) {
          server.troubles.push({ kind: "break", bytes: 4_000 }, { kind: "break", bytes: 3_000 });
        }
      },
    });
    const ranges = server.transfers.filter(({ path }) => path === DATA).map(({ range }) => range);
    expect(ranges).toEqual([undefined, "bytes=4000-", "bytes=7000-"]);
    expect(readFileSync(join(folder, DATA)).equals(FILES[DATA]!)).toBe(true);
    expect(progress.at(-1)).toBe(FILES[DATA]!.length);
  });

  test("go on in a later run, also with a server that ignores ranges", async () => {
    const server = await startHub();
    const options = optionsFor(server);
    const first = pull(NAME, {
      ...options,
      onProgress: ({ path }, bytes) => {
        if (path === DATA) server.clientHas(bytes);
        if (path !== "onnx/model.onnx" || bytes < FILES[path]!.length) return;
        server.troubles.push({ kind: "break", bytes: 4_000 }, { kind: "status", status: 403 });
      },
    });
    await expect(first).rejects.toThrow("refuses (403)");
    server.transfers.length = 0;
    server.troubles.push({ kind: "whole" });
    const { folder } = await pull(NAME, options);
    expect(server.transfers.map(({ range }) => range)).toEqual(["bytes=4000-"]);
    expect(readFileSync(join(folder, DATA)).equals(FILES[DATA]!)).toBe(true);
  });

  test("with other bytes are repeated once, and then refused", async () => {
    const server = await startHub();
    server.troubles.push({ kind: "corrupt" });
    const { folder } = await pull(NAME, optionsFor(server));
    expect(readFileSync(join(folder, "config.json")).equals(FILES["config.json"]!)).toBe(true);
    server.troubles.push({ kind: "corrupt" }, { kind: "corrupt" });
    const options = optionsFor(server);
    await expect(pull(NAME, options)).rejects.toThrow("config.json: what arrived has another hash");
    const repository = join(options.cache, "models--acme--tiny.model-1");
    expect(readdirSync(join(repository, "blobs"))).toEqual([]);
  });
});

describe("a cache that several pulls use at once", () => {
  const blobsOf = ({ cache }: PullOptions) => join(cache, "models--acme--tiny.model-1/blobs");
  const weightsHash = createHash("sha256").update(FILES[DATA]!).digest("hex");

  test("gets each file once, and all of them have it", async () => {
    const server = await startHub();
    const options = optionsFor(server);
    const pulled = await Promise.all([1, 2, 3].map(() => pull(NAME, options)));
    for (const { folder, files } of pulled) {
      expect(files.toSorted()).toEqual(WANTED);
      for (const name of WANTED) {
        expect(readFileSync(join(folder, name)).equals(FILES[name]!)).toBe(true);
      }
    }
    expect(server.transfers.map(({ path }) => path).toSorted()).toEqual(WANTED);
    expect(readdirSync(blobsOf(options))).toHaveLength(WANTED.length);
    expect(readdirSync(join(pulled[0]!.folder, "onnx"))).toHaveLength(2);
  });

  test("goes on after a pull that was killed", async () => {
    const server = await startHub();
    const options = optionsFor(server);
    const lock = join(blobsOf(options), `${weightsHash}.lock`);
    mkdirSync(blobsOf(options), { recursive: true });
    writeFileSync(lock, "");
    const lastRenewal = new Date(Date.now() - 60_000);
    utimesSync(lock, lastRenewal, lastRenewal);
    const { folder } = await pull(NAME, options);
    expect(readFileSync(join(folder, DATA)).equals(FILES[DATA]!)).toBe(true);
    expect(readdirSync(blobsOf(options))).toHaveLength(WANTED.length);
  });

  test("replaces a part that is longer than its file, from the beginning", async () => {
    const server = await startHub();
    const options = optionsFor(server);
    mkdirSync(blobsOf(options), { recursive: true });
    const bytes = Buffer.alloc(FILES[DATA]!.length + 1);
    writeFileSync(join(blobsOf(options), `${weightsHash}.incomplete`), bytes);
    const { folder } = await pull(NAME, options);
    expect(server.transfers.map(({ range }) => range)).toEqual(WANTED.map(() => undefined));
    expect(readFileSync(join(folder, DATA)).equals(FILES[DATA]!)).toBe(true);
  });
});

test("the API is asked again after 429", async () => {
  const server = await startHub();
  server.apiRefusals = 2;
  await expect(pull(NAME, optionsFor(server))).resolves.toMatchObject({ commit: COMMIT });
});

test("a private repository needs a token, which the store of large files does not get", async () => {
  const server = await startHub({ token: "hf_secret" });
  await expect(pull(NAME, optionsFor(server))).rejects.toThrow(
    `refuses (401): set HF_TOKEN, or check the name`,
  );
  const wrong = optionsFor(server, { hub: { endpoint: server.url, token: "hf_wrong" } });
  await expect(pull(NAME, wrong)).rejects.toThrow(/^(?!.*hf_wrong).*HF_TOKEN may not read it/);
  const hub = { endpoint: server.url, token: "hf_secret" };
  const { files } = await pull(NAME, optionsFor(server, { hub }));
  expect(files).toHaveLength(WANTED.length);
});

test.each([
  ["nonsense", "Expected ORG/NAME or ORG/NAME@REVISION, received nonsense"],
  ["acme/other", "acme/other@main: not found at http://"],
  [`${NAME}@other`, `${NAME}@other: not found at http://`],
])("%s is refused: %s", async (text, message) => {
  await expect(pull(text, optionsFor(await startHub()))).rejects.toThrow(message);
});

test("a format that the repository does not have is refused with those that it has", async () => {
  const options = optionsFor(await startHub(), { dtypes: ["fp16"] });
  await expect(pull(NAME, options)).rejects.toThrow(
    `${NAME} has no graph in fp16. It has onnx/model.onnx, onnx/model_q4.onnx`,
  );
});

test("a manifest takes the repository at its commit", async () => {
  const server = await startHub();
  const options = optionsFor(server);
  const { folder } = await pull(NAME, options);
  const model = { repo: `${NAME}@${COMMIT}` };
  const manifest = (base: object) => {
    const ensemble = { id: "x", base, expert: model, antiexpert: model };
    return join(folderOf({ "m.json": { ensembles: [ensemble] } }), "m.json");
  };
  vi.stubEnv("HF_HUB_CACHE", options.cache);
  expect(readManifest(manifest(model)).ensembles[0]!.base).toMatchObject({
    path: folder,
    dtype: "fp32",
  });
  const other = { repo: `acme/other@${COMMIT}` };
  expect(() => readManifest(manifest(other))).toThrow(
    `run \`npm run models -- pull acme/other@${COMMIT}\` first`,
  );
  expect(() => readManifest(manifest({ repo: `${NAME}@main` }))).toThrow("40 digits of a commit");
  expect(() => readManifest(manifest({}))).toThrow("A model has a path or a repo");
});
