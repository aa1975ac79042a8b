/**
 * The manifest: the ensembles that a worker serves, and their model folders. A running worker follows changes of adapters
 * (manifest-change.ts).
 */
import { existsSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import * as v from "valibot";
import { LIMITS } from "../../../shared/api/limits.ts";
import { TOOL_FORMAT_NAMES } from "../../../shared/tools/formats.ts";
import { BASE_APIS, OPENAI_PROMPTS } from "../remote/apis/apis.ts";
import { DTYPES, type Dtype } from "./graph-files.ts";
import { cachedModelFolder, PINNED_REPOSITORY } from "./hub-cache.ts";
import { parseJson, readText } from "./json-file.ts";

const alpha = v.pipe(v.number(), v.minValue(0), v.maxValue(LIMITS.alphaMax));

const ModelFields = v.strictObject({
  /** Model folder, relative to the manifest. */
  path: v.optional(v.pipe(v.string(), v.minLength(1))),
  /** Instead of a folder: a repository of the Hugging Face hub at a commit, ORG/NAME@COMMIT, that is in the cache. */
  repo: v.optional(
    v.pipe(
      v.string(),
      v.regex(PINNED_REPOSITORY, "Expected ORG/NAME@COMMIT with the 40 digits of a commit"),
    ),
  ),
  /** Weight format, which decides the graph file (graph-files.ts); by default fp32, which is model.onnx. */
  dtype: v.optional(v.picklist(DTYPES)),
  /** Graph file relative to the model folder, instead of that of a `dtype`. */
  file: v.optional(v.pipe(v.string(), v.minLength(1))),
  /** Jinja file, relative to the manifest. It replaces the model folder's chat template. */
  chatTemplate: v.optional(v.string()),
  /** Jinja template with the variable `prompt`, rendered for plain prompts. */
  promptTemplate: v.optional(v.string()),
  /** Variables of the chat template, such as `enable_thinking`. */
  chatTemplateKwargs: v.optional(v.record(v.string(), v.unknown())),
});
const ModelEntry = v.pipe(
  ModelFields,
  v.check(
    ({ dtype, file }) => dtype === undefined || file === undefined,
    "A model has a dtype or a file, not both",
  ),
  v.check(
    ({ path, repo }) => (path === undefined) !== (repo === undefined),
    "A model has a path or a repo",
  ),
  v.transform(({ dtype = "fp32", repo, path = "", ...entry }) => ({ dtype, repo, path, ...entry })),
);

/** An expert that is the ensemble's antiexpert with a LoRA adapter: both are rows of the same runs. */
const AdapterEntry = v.strictObject({
  /** Folder with adapter_config.json and adapter_model.safetensors, as `peft` saves them; relative to the manifest. */
  adapter: v.pipe(v.string(), v.minLength(1)),
  /** These replace the antiexpert's. If the adapter's folder has a chat_template.jinja, that is the default. */
  chatTemplate: v.optional(v.string()),
  promptTemplate: v.optional(v.string()),
  chatTemplateKwargs: v.optional(v.record(v.string(), v.unknown())),
});

const seconds = (fallback: number, max: number) =>
  v.optional(v.pipe(v.number(), v.minValue(0.001), v.maxValue(max)), fallback);
const whole = (max: number) => v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(max));

/** A base that a server runs. Its weights are not needed here, its tokenizer is. */
const RemoteEntry = v.strictObject({
  /** The server's address, with the path below which its API begins; for `openai` with `/v1`. */
  url: v.pipe(
    v.string(),
    v.url(),
    v.check((url) => /^https?:/.test(url), "The URL must begin with http:// or https://"),
    v.check(
      (url) => new URL(url).username === "" && new URL(url).password === "",
      'The URL must not contain credentials: use "key"',
    ),
  ),
  /** The server's kind. */
  api: v.picklist(BASE_APIS),
  /**
   * How `openai` is asked: `text` by completions, `chat` by chats whose last message the server continues, `chat-start` by chats
   * of which only the first token of a reply is known, to score choices.
   */
  prompts: v.optional(v.picklist(OPENAI_PROMPTS), "text"),
  /** The model's name in requests; it also names the base in errors. */
  model: v.pipe(v.string(), v.minLength(1)),
  /**
   * Changed by the operator when the server gets other weights under the same name. Workers continue each other's jobs only
   * with the same model and revision.
   */
  revision: v.optional(v.string(), ""),
  /** Folder with tokenizer.json, tokenizer_config.json and config.json of the base, relative to the manifest. */
  tokenizer: v.pipe(v.string(), v.minLength(1)),
  /** Where the API key is: an environment variable, or a file relative to the manifest. */
  key: v.optional(
    v.union([v.strictObject({ env: v.string() }), v.strictObject({ file: v.string() })]),
  ),
  /** Most likely tokens that each position is asked for: 64 by default, and what is usual for `openai`. */
  top: v.optional(whole(1_000_000)),
  /** Calls at once; further ones wait. */
  concurrency: v.optional(whole(1_024), 32),
  /** Most prompts in one call: one, and one for each drafted token. 8 by default; 1 for `openai`, where each is paid for. */
  rows: v.optional(whole(64)),
  /** Longest time of a call. */
  timeoutSeconds: seconds(60, 3_600),
  /** How long a call is repeated while the server is away, before the job fails. */
  patienceSeconds: seconds(120, 86_400),
  /** Whether the server's tokenizer is compared. Without it, wrong ids steer towards wrong tokens. */
  checkTokenizer: v.optional(v.boolean(), true),
  chatTemplate: v.optional(v.string()),
  promptTemplate: v.optional(v.string()),
  chatTemplateKwargs: v.optional(v.record(v.string(), v.unknown())),
});

const EnsembleEntry = v.strictObject({
  /** Value of `model` in requests. "+" separates the ids of a lane (shared/queue/lanes.ts). */
  id: v.pipe(
    v.string(),
    v.minLength(1),
    v.maxLength(LIMITS.modelCharsMax),
    v.check((id) => !id.includes("+"), 'An id must not contain "+"'),
  ),
  description: v.optional(v.string(), ""),
  /** Steering strength of requests without `alpha`, and the highest `alpha` of a request. */
  alpha: v.optional(alpha, 1),
  alphaMax: v.optional(alpha, 2),
  /**
   * The format in which the models call functions. The default is the one in which the base's chat template writes calls, or
   * `hermes` if it writes none.
   */
  toolFormat: v.optional(v.picklist(TOOL_FORMAT_NAMES)),
  /** A model folder, or a server. */
  base: v.lazy((entry) =>
    typeof entry === "object" && entry !== null && "url" in entry ? RemoteEntry : ModelEntry,
  ),
  /** A model folder, or an adapter of the antiexpert. */
  expert: v.lazy((entry) =>
    typeof entry === "object" && entry !== null && "adapter" in entry ? AdapterEntry : ModelEntry,
  ),
  antiexpert: ModelEntry,
});

const Manifest = v.strictObject({
  ensembles: v.pipe(
    v.array(EnsembleEntry),
    v.minLength(1),
    v.check(
      (ensembles) => new Set(ensembles.map(({ id }) => id)).size === ensembles.length,
      "Two ensembles have the same id",
    ),
  ),
});
export interface ModelEntry extends Omit<v.InferOutput<typeof ModelFields>, "path" | "repo"> {
  readonly path: string;
  readonly dtype: Dtype;
  /** Folder of the adapter that changes the graph's weights; absent for none. */
  readonly adapter?: string;
}
/** A remote base; `path` is the folder of its tokenizer. */
export interface RemoteEntry extends v.InferOutput<typeof RemoteEntry> {
  readonly path: string;
}
export interface EnsembleEntry extends Omit<
  v.InferOutput<typeof EnsembleEntry>,
  "base" | "expert" | "antiexpert"
> {
  readonly base: ModelEntry | RemoteEntry;
  readonly expert: ModelEntry;
  readonly antiexpert: ModelEntry;
}
export interface Manifest {
  readonly ensembles: readonly EnsembleEntry[];
}

/** The model that an adapter changes. */
export function withoutAdapter(entry: ModelEntry): ModelEntry {
  const { adapter: _, ...own } = entry;
  return own;
}

export const isRemote = (entry: ModelEntry | RemoteEntry): entry is RemoteEntry => "url" in entry;

function parseManifest(file: string, text: string): v.InferOutput<typeof Manifest> {
  const parsed = v.safeParse(Manifest, parseJson(file, text));
  if (parsed.success) return parsed.output;
  const [issue] = parsed.issues;
  throw new Error(`${file}: ${v.getDotPath(issue) ?? "(root)"}: ${issue.message}`);
}

/** The models of a manifest that are in repositories, whether or not they are in the cache. */
export function readManifestRepositories(
  file: string,
  text = readText(file),
): { readonly repo: string; readonly dtype: Dtype; readonly file?: string | undefined }[] {
  return parseManifest(file, text).ensembles.flatMap(({ base, expert, antiexpert }) =>
    [base, expert, antiexpert].flatMap((entry) =>
      "url" in entry || "adapter" in entry || entry.repo === undefined
        ? []
        : [{ repo: entry.repo, dtype: entry.dtype, file: entry.file }],
    ),
  );
}

/** Reads a manifest and makes its paths absolute. @param text the file's @throws Error with file, field and reason */
export function readManifest(file: string, text = readText(file)): Manifest {
  const { ensembles } = parseManifest(file, text);
  const folder = dirname(file);
  const template = ({ chatTemplate }: { chatTemplate?: string | undefined }) =>
    chatTemplate === undefined ? {} : { chatTemplate: resolve(folder, chatTemplate) };
  const withAbsolutePaths = ({ repo, ...entry }: v.InferOutput<typeof ModelEntry>): ModelEntry => ({
    ...entry,
    path: repo === undefined ? resolve(folder, entry.path) : cachedModelFolder(repo),
    ...template(entry),
  });
  const remote = (entry: v.InferOutput<typeof RemoteEntry>): RemoteEntry => ({
    ...entry,
    path: resolve(folder, entry.tokenizer),
    ...template(entry),
    ...(entry.key && "file" in entry.key && { key: { file: resolve(folder, entry.key.file) } }),
  });
  const adapted = (
    { adapter, ...entry }: v.InferOutput<typeof AdapterEntry>,
    antiexpert: ModelEntry,
  ): ModelEntry => {
    const own = resolve(folder, adapter);
    const trained = join(own, "chat_template.jinja");
    return {
      ...antiexpert,
      ...(existsSync(trained) && { chatTemplate: trained }),
      ...entry,
      ...template(entry),
      adapter: own,
    };
  };
  return {
    ensembles: ensembles.map((ensemble) => {
      const { base, expert } = ensemble;
      const antiexpert = withAbsolutePaths(ensemble.antiexpert);
      return {
        ...ensemble,
        base: "url" in base ? remote(base) : withAbsolutePaths(base),
        expert: "adapter" in expert ? adapted(expert, antiexpert) : withAbsolutePaths(expert),
        antiexpert,
      };
    }),
  };
}
