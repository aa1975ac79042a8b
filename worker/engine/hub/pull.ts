/** Gets from a repository the files that a model needs, and no others. */
import { mkdirSync, statfsSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { inspectGraph } from "../graph/inspect.ts";
import { graphNames, type Dtype } from "../model/graph-files.ts";
import { repositoryFolder, snapshotFolder, type PinnedRepository } from "../model/hub-cache.ts";
import { HubError } from "./hub-error.ts";
import { downloadFile, missingBytes, type Download } from "./download.ts";
import { commitOf, filesOf, type Hub, type RemoteFile } from "./hub.ts";

/** Files beside the graphs, of which a repository may have some. */
const CONFIG_FILES = [
  "config.json",
  "generation_config.json",
  "genai_config.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "chat_template.jinja",
];

export interface PullOptions {
  readonly hub: Hub;
  readonly cache: string;
  readonly dtypes: readonly Dtype[];
  /** Other graphs, by their paths in the repository; absent for none. */
  readonly graphs?: readonly string[];
  readonly onProgress: Download["onProgress"];
  /** Called before transfers begin. */
  readonly onPlan: (files: readonly RemoteFile[], bytes: number) => void;
}

export interface Pulled extends PinnedRepository {
  readonly folder: string;
  readonly files: readonly string[];
}

/**
 * @param text ORG/NAME, perhaps with @REVISION: a branch, a tag or a commit
 * @throws HubError
 */
export async function pull(text: string, options: PullOptions): Promise<Pulled> {
  const { hub, cache, dtypes, graphs: named = [], onProgress, onPlan } = options;
  const { name, revision } = parseRepository(text);
  const commit = await commitOf(hub, name, revision);
  const repository = { name, commit };
  const files = await filesOf(hub, name, commit);
  const download: Download = { hub, cache, repository, onProgress };
  const graphs = [
    ...dtypes.map((dtype) => graphOf(files, graphNames(dtype), { text, what: dtype })),
    ...named.map((path) => graphOf(files, [path], { text, what: path })),
  ];
  const configs = files.filter(({ path }) => CONFIG_FILES.includes(path));
  const known = [...new Set([...configs, ...graphs])];
  // Weights in other files usually have the name of the graph in theirs.
  const likely = files.filter(({ path }) => graphs.some((graph) => isDataOf(path, graph.path)));
  onPlan([...known, ...likely], requireSpace(download, [...known, ...likely]));
  for (const file of known) await downloadFile(download, file);
  const weights = weightsOf(download, graphs, files);
  requireSpace(download, weights);
  for (const file of weights) await downloadFile(download, file);
  if (revision !== commit) recordRevision(cache, repository, revision);
  const folder = snapshotFolder(cache, repository);
  return { name, commit, folder, files: [...known, ...weights].map(({ path }) => path) };
}

function parseRepository(text: string): { name: string; revision: string } {
  const [, name, revision = "main"] = /^([\w.-]+\/[\w.-]+)(?:@(.+))?$/.exec(text) ?? [];
  if (name !== undefined) return { name, revision };
  throw new HubError(`Expected ORG/NAME or ORG/NAME@REVISION, received ${text}`);
}

function graphOf(
  files: readonly RemoteFile[],
  names: readonly string[],
  { text, what }: { readonly text: string; readonly what: string },
): RemoteFile {
  const found = names.flatMap((path) => files.find((file) => file.path === path) ?? []);
  if (found[0]) return found[0];
  const graphs = files.filter(({ path }) => path.endsWith(".onnx")).map(({ path }) => path);
  const hint =
    graphs.length === 0
      ? "It has no ONNX graph: it must be exported first"
      : `It has ${graphs.join(", ")}`;
  throw new HubError(`${text} has no graph in ${what}. ${hint}`);
}

const isDataOf = (path: string, graph: string) =>
  path.startsWith(`${graph}_data`) || path === `${graph}.data`;

/** The files with weights that the graphs refer to. @throws HubError if the repository does not have one */
function weightsOf(
  { cache, repository }: Download,
  graphs: readonly RemoteFile[],
  files: readonly RemoteFile[],
): RemoteFile[] {
  const paths = graphs.flatMap(({ path }) => {
    const { externalFiles } = inspectGraph(join(snapshotFolder(cache, repository), path));
    return externalFiles.map((name) => join(dirname(path), name));
  });
  return [...new Set(paths)].map((path) => {
    const file = files.find((each) => each.path === path);
    if (file) return file;
    throw new HubError(`${repository.name} has no ${path}, where weights of its graph are`);
  });
}

/** @returns the bytes that are missing @throws HubError if the disk has no space for them */
function requireSpace(download: Download, files: readonly RemoteFile[]): number {
  const bytes = files.reduce((sum, file) => sum + missingBytes(download, file), 0);
  mkdirSync(download.cache, { recursive: true });
  const { bavail, bsize } = statfsSync(download.cache);
  if (bytes <= bavail * bsize) return bytes;
  const [need, have] = [bytes, bavail * bsize].map((size) => Math.ceil(size / 2 ** 20));
  throw new HubError(`${download.cache}: ${need} MiB are needed, and ${have} MiB are free`);
}

/** As other clients of the cache do it, so that they find the commit too. */
function recordRevision(cache: string, { name, commit }: PinnedRepository, revision: string): void {
  const file = join(repositoryFolder(cache, name), "refs", revision);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, commit);
}
