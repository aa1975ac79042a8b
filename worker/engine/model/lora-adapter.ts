/** Reads LoRA adapters as `peft` saves them: adapter_config.json and adapter_model.safetensors. */
import { join } from "node:path";
import * as v from "valibot";
import type { LoraModule, LoraModules } from "../graph/adapter-targets.ts";
import { readJson } from "./json-file.ts";
import { readSafetensors, type Tensor } from "./safetensors.ts";

export const ADAPTER_FILES = {
  config: "adapter_config.json",
  weights: "adapter_model.safetensors",
} as const;

/** Of all adapters of a graph. Their matrices are kept as float32: 1 GiB. A graph in memory must be smaller than 2 GiB. */
const VALUES_MAX = 2 ** 28;

const positive = v.pipe(v.number(), v.minValue(Number.MIN_VALUE));
const rank = v.pipe(v.number(), v.integer(), v.minValue(1));

const AdapterConfig = v.object({
  r: rank,
  lora_alpha: positive,
  use_rslora: v.nullish(v.boolean(), false),
  rank_pattern: v.nullish(v.record(v.string(), rank), {}),
  alpha_pattern: v.nullish(v.record(v.string(), positive), {}),
  base_model_name_or_path: v.nullish(v.string(), null),
  target_modules: v.nullish(v.union([v.string(), v.array(v.string())]), []),
});
type AdapterConfig = v.InferOutput<typeof AdapterConfig>;

/** Initialisations that change the weights under the adapter, which therefore does not fit the antiexpert. */
const CHANGES_BASE = /^(pissa|olora|loftq|corda|lora_ga)/i;

/** Field -> whether its value is supported. Other fields do not change what an adapter computes. */
const SUPPORTED: Readonly<Record<string, (value: unknown) => boolean>> = {
  peft_type: (value) => value === "LORA",
  bias: (value) => isUnset(value) || value === "none",
  init_lora_weights: (value) => typeof value !== "string" || !CHANGES_BASE.test(value),
  ...Object.fromEntries(
    [
      "use_dora",
      "modules_to_save",
      "lora_bias",
      "layer_replication",
      "target_parameters",
      "trainable_token_indices",
      "alora_invocation_tokens",
      "use_qalora",
      "use_bdlora",
      "arrow_config",
      "megatron_config",
      "loftq_config",
    ].map((field) => [field, isUnset]),
  ),
};

/** Whether a field has a value that stands for none. */
function isUnset(value: unknown): boolean {
  if (typeof value !== "object" || value === null) return !value;
  return Object.keys(value).length === 0;
}

const MERGE = "merge it into a model with `npm run models -- export … --adapter`";

export interface Adapter {
  readonly modules: LoraModules;
  readonly config: AdapterConfig;
  /** Numbers in all matrices. */
  readonly values: number;
}

/** The adapters of one graph. @throws Error as `readAdapter`, also if they have more than `valuesMax` values together */
export function readAdapters(folders: readonly string[], valuesMax = VALUES_MAX): Adapter[] {
  let values = 0;
  return folders.map((folder) =>
    readAdapter(folder, (own) => {
      values += own;
      checkAdapterValues(values, valuesMax);
    }),
  );
}

/** @param values of all adapters of a graph @throws Error with the limit if they are too many */
export function checkAdapterValues(values: number, valuesMax = VALUES_MAX): void {
  if (values <= valuesMax) return;
  throw new Error(
    `with it the adapters of its graph have ${values} values, more than ${valuesMax}: ${MERGE}`,
  );
}

/** @throws Error with file, field and reason if an adapter cannot be read or is not supported */
export function readAdapter(
  folder: string,
  checkSize: (values: number) => void = (values) => checkAdapterValues(values),
): Adapter {
  const config = readAdapterConfig(join(folder, ADAPTER_FILES.config));
  const file = join(folder, ADAPTER_FILES.weights);
  try {
    const tensors = readSafetensors(file, checkSize);
    const values = tensors.reduce((sum, tensor) => sum + tensor.values.length, 0);
    return { modules: modulesOf(tensors, config), config, values };
  } catch (error) {
    throw new Error(`${file}: ${(error as Error).message}`, { cause: error });
  }
}

function readAdapterConfig(file: string): AdapterConfig {
  const json = readJson(file);
  if (typeof json !== "object" || json === null) throw new Error(`${file}: it is not an object`);
  for (const [field, isSupported] of Object.entries(SUPPORTED)) {
    const value = (json as Record<string, unknown>)[field];
    if (!isSupported(value)) {
      const shown = JSON.stringify(value) ?? "absent";
      throw new Error(`${file}: ${field} is ${shown}, which is not supported: ${MERGE}`);
    }
  }
  const parsed = v.safeParse(AdapterConfig, json);
  if (parsed.success) return parsed.output;
  const [issue] = parsed.issues;
  throw new Error(`${file}: ${v.getDotPath(issue) ?? "(root)"}: ${issue.message}`);
}

/** `base_model.model.` stands before each path; `default` is the adapter's name in older files. */
const TENSOR_NAME = /^base_model\.model\.(.+)\.lora_([AB])(?:\.default)?\.weight$/;

function modulesOf(tensors: readonly Tensor[], config: AdapterConfig): LoraModules {
  const matrices = new Map<string, Partial<Record<"A" | "B", Tensor>>>();
  for (const tensor of tensors) {
    const [, path, side] = TENSOR_NAME.exec(tensor.name) ?? [];
    if (path === undefined || tensor.shape.length !== 2) {
      throw new Error(`${tensor.name} [${tensor.shape.join(", ")}] is no matrix of LoRA: ${MERGE}`);
    }
    if (!tensor.values.every(Number.isFinite)) {
      throw new Error(`${tensor.name} has values that are not finite`);
    }
    matrices.set(path, { ...matrices.get(path), [side as "A" | "B"]: tensor });
  }
  if (matrices.size === 0) throw new Error("it has no tensors");
  return new Map(
    Array.from(matrices, ([path, { A, B }]) => [path, toModule(path, { A, B }, config)] as const),
  );
}

function toModule(
  path: string,
  { A, B }: Partial<Record<"A" | "B", Tensor | undefined>>,
  config: AdapterConfig,
): LoraModule {
  if (!A || !B) throw new Error(`${path} has only one of lora_A and lora_B`);
  const [rankOfA, inputs] = A.shape as [number, number];
  const [outputs, rankOfB] = B.shape as [number, number];
  const r = forModule(config.rank_pattern, path) ?? config.r;
  if (rankOfA !== r || rankOfB !== r) {
    throw new Error(
      `${path} has the ranks ${rankOfA} and ${rankOfB}, but by r and rank_pattern of ${ADAPTER_FILES.config} it is ${r}`,
    );
  }
  const alpha = forModule(config.alpha_pattern, path) ?? config.lora_alpha;
  const scale = alpha / (config.use_rslora ? Math.sqrt(r) : r);
  return { rank: r, inputs, outputs, scale, a: A.values, b: B.values };
}

/** The value of a pattern, whose keys are the ends of paths or regular expressions for them. */
function forModule(pattern: Readonly<Record<string, number>>, path: string): number | undefined {
  return Object.entries(pattern).find(([key]) => new RegExp(`^(.*\\.)?(${key})$`).test(path))?.[1];
}
