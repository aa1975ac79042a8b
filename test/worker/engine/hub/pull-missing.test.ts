/** A worker's engine gets the repositories of its manifest when it starts. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, expect, test, vi } from "vitest";
import { EngineClient } from "../../../../worker/engine-client/client.ts";
import type { LoadingProgress } from "../../../../worker/engine-client/loading-progress.ts";
import { pullMissing } from "../../../../worker/engine/hub/pull-missing.ts";
import { readManifestRepositories } from "../../../../worker/engine/model/manifest.ts";
import { COMMIT, HubServer } from "../../../support/hub-server.ts";
import { modelFolder } from "../../../support/model-folder.ts";
import { folderOf } from "../../../support/tokenizers.ts";

const NAME = "acme/tiny";
const REPO = `${NAME}@${COMMIT}`;
const folder = modelFolder();
const FILES = Object.fromEntries(
  ["config.json", "generation_config.json", "tokenizer.json", "onnx/model.onnx"].map((path) => [
    path,
    readFileSync(join(folder, path)),
  ]),
);

afterEach(() => vi.unstubAllEnvs());

const bytes = Object.values(FILES).reduce((sum, file) => sum + file.length, 0);
const COMPLETE = { stage: "pull", loaded: 4, of: 4, bytes, bytesOf: bytes, model: REPO };

/** A manifest of one repository, whose graph the base names by its file. */
function manifestWith(file: string): string {
  const model = { repo: REPO };
  const manifest = {
    ensembles: [{ id: "tiny", base: { ...model, file }, expert: model, antiexpert: model }],
  };
  return join(folderOf({ "ensembles.json": manifest }), "ensembles.json");
}

/** Starts an engine as a worker does. @returns the engine, and what it told while it started */
async function start(manifestFile: string) {
  const reports: LoadingProgress[] = [];
  const engine = await EngineClient.start(
    {
      manifestFile,
      intraOpThreads: 1,
      cacheBytesMax: 2 ** 24,
      prefixBytesMax: 0,
      pullsModels: true,
    },
    (error) => {
      throw error;
    },
    () => {},
    (progress) => reports.push(progress),
  );
  return { engine, reports };
}

test("what is missing arrives with its progress; a complete cache needs no hub", async () => {
  const hub = new HubServer({ name: NAME, files: FILES });
  await hub.start();
  const cache = folderOf({});
  const reports: LoadingProgress[] = [];
  const options = {
    hub: { endpoint: hub.url, token: null },
    cache,
    onProgress: (progress: LoadingProgress) => reports.push(progress),
  };
  const entries = readManifestRepositories(manifestWith("onnx/model.onnx"));
  expect(entries).toHaveLength(3);
  await pullMissing(entries, options);
  expect(reports.map(({ loaded }) => loaded)).toEqual([1, 2, 3, 4]);
  expect(reports.at(-1)).toEqual(COMPLETE);
  const transfers = hub.transfers.length;
  await hub.stop();
  await pullMissing(entries, options);
  expect([hub.transfers.length, reports.length]).toEqual([transfers, 4]);
});

test("an engine gets its models when it starts, and then loads them", async () => {
  const hub = new HubServer({ name: NAME, files: FILES });
  await hub.start();
  vi.stubEnv("HF_ENDPOINT", hub.url);
  vi.stubEnv("HF_HUB_CACHE", folderOf({}));
  const { engine, reports } = await start(manifestWith("onnx/model.onnx"));
  expect(engine.cards.map(({ id }) => id)).toEqual(["tiny"]);
  expect(reports.filter(({ stage }) => stage === "pull").at(-1)).toEqual(COMPLETE);
  expect(reports.at(-1)).toMatchObject({ stage: "load", loaded: 1, of: 1, model: null });
  await engine.close();
  await hub.stop();
});

test("the start fails with the reason if the hub does not have a graph", async () => {
  const hub = new HubServer({ name: NAME, files: FILES });
  await hub.start();
  vi.stubEnv("HF_ENDPOINT", hub.url);
  vi.stubEnv("HF_HUB_CACHE", folderOf({}));
  await expect(start(manifestWith("onnx/other.onnx"))).rejects.toThrow(
    `${REPO} has no graph in onnx/other.onnx. It has onnx/model.onnx`,
  );
  await hub.stop();
});
