/** Finds the graph of a weight format in a model folder, in each of the layouts in which models are published. */
import { existsSync, globSync, lstatSync, realpathSync, statSync } from "node:fs";
import { basename, dirname, join, relative, resolve } from "node:path";
import type { GraphFacts } from "../graph/inspect.ts";
import { refusePointer } from "../graph/lfs-pointer.ts";
import { genaiGraphName } from "./genai-config.ts";

/**
 * Weight format -> endings of the file name, the first that exists. transformers.js' q8 is the file that others call
 * quantized; its int8 is `_int8`. A `_q8` has blocks of 8-bit weights, as `_q4` has blocks of 4-bit weights.
 */
const ENDINGS = {
  fp32: [""],
  fp16: ["_fp16"],
  int8: ["_int8", "_quantized"],
  uint8: ["_uint8"],
  q8: ["_q8", "_quantized"],
  q4: ["_q4"],
  q4f16: ["_q4f16"],
  bnb4: ["_bnb4"],
} as const satisfies Record<string, readonly string[]>;
export type Dtype = keyof typeof ENDINGS;
export const DTYPES = Object.keys(ENDINGS) as Dtype[];

/** The hub has graphs in onnx/; `optimum-cli` and onnxruntime-genai's builder write them beside config.json. */
const FOLDERS = ["onnx", "."];
/** Older exports have one graph for prefill and decoding under the second name. */
const NAMES = ["model", "decoder_model_merged"];

/** A graph of a model folder. */
export interface GraphChoice {
  /** The model folder. */
  readonly path: string;
  readonly dtype: Dtype;
  /** Graph file relative to the folder, instead of the one of `dtype`. */
  readonly file?: string | undefined;
}

/** Path of a graph. @throws Error with the files that there are, if it does not exist */
export function findGraph(choice: GraphChoice): string {
  const found = candidates(choice).find((file) => existsSync(file));
  if (found !== undefined) return besideItsWeights(found);
  const { path } = choice;
  const others = graphsIn(path).map((file) => relative(path, file));
  const hint = others.length === 0 ? "" : `. There is ${others.join(", ")}`;
  throw new Error(`${candidates(choice)[0]!} does not exist${hint}`);
}

export const hasGraph = (choice: GraphChoice) =>
  candidates(choice).some((file) => existsSync(file));

function candidates({ path, dtype, file }: GraphChoice): string[] {
  if (file !== undefined) return [resolve(path, file)];
  const names = graphNames(dtype).map((name) => join(path, name));
  // The builder writes all formats under one name.
  const genai = dtype === "fp32" ? genaiGraphName(path) : null;
  return genai === null ? names : [...names, join(path, genai)];
}

/** The names that a graph of a weight format may have in a model folder, the first that exists. */
export const graphNames = (dtype: Dtype) =>
  FOLDERS.flatMap((folder) =>
    ENDINGS[dtype].flatMap((ending) => NAMES.map((name) => join(folder, `${name}${ending}.onnx`))),
  );

/** The weight formats that a folder has, each file under one of its names. */
export function dtypesIn(path: string): { dtype: Dtype; file: string }[] {
  const found = new Map<string, Dtype>();
  for (const dtype of DTYPES) {
    const file = candidates({ path, dtype }).find((candidate) => existsSync(candidate));
    if (file !== undefined && !found.has(file)) found.set(file, dtype);
  }
  return Array.from(found, ([file, dtype]) => ({ dtype, file }));
}

function graphsIn(path: string): string[] {
  return globSync("{.,onnx}/*.onnx", { cwd: path })
    .filter((file) => !file.endsWith(".prepared.onnx"))
    .map((file) => join(path, file))
    .toSorted();
}

/**
 * The path of a graph from which the paths of its external weights count. In a snapshot of the Hugging Face cache all files are
 * links to blobs with other names, so it is the link. If only the graph is linked, the weights are beside the file itself.
 */
function besideItsWeights(file: string): string {
  if (!lstatSync(file).isSymbolicLink()) return file;
  const target = realpathSync(file);
  const isBlob = basename(dirname(target)) === "blobs";
  const data = (graph: string) =>
    globSync(`${basename(graph)}{_data,.data}*`, { cwd: dirname(graph) });
  return !isBlob && data(file).length === 0 && data(target).length > 0 ? target : file;
}

/** Bytes of a graph's file and of those with its weights. */
export function graphBytes(
  graph: string,
  { externalFiles }: Pick<GraphFacts, "externalFiles">,
): number {
  const files = [graph, ...externalFiles.map((name) => join(dirname(graph), name))];
  return files.reduce((sum, file) => sum + statSync(file).size, 0);
}

/** @throws Error with the file if external weights are missing, incomplete, or git-LFS pointers */
export function checkExternalFiles(
  graph: string,
  { externalBytes }: Pick<GraphFacts, "externalBytes">,
): void {
  for (const [name, bytes] of externalBytes) {
    const file = join(dirname(graph), name);
    const stats = statSync(file, { throwIfNoEntry: false });
    if (!stats) throw new Error(`its weights ${file} do not exist`);
    try {
      refusePointer(file);
    } catch (error) {
      throw new Error(`its weights ${file}: ${(error as Error).message}`, { cause: error });
    }
    if (stats.size < bytes) {
      throw new Error(
        `its weights ${file} are truncated: ${stats.size} of at least ${bytes} bytes, so get the file again`,
      );
    }
  }
}
