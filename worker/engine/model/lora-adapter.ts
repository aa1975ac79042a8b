/** Reads LoRA adapters as `peft` saves them: adapter_config.json and adapter_model.safetensors. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { ofAdapter } from "../graph/adapter-error.ts";
import { stackedValues } from "../graph/adapter-columns.ts";
import type {
  AdapterSizes,
  LoraModule,
  LoraModules,
  ModuleSizes,
} from "../graph/adapter-targets.ts";
import { readJson } from "./json-file.ts";
import { modulePatterns, valueFor, type ModulePatterns } from "./module-patterns.ts";
import { readSafetensors, type Tensor, type TensorShape } from "./safetensors.ts";

export const ADAPTER_FILES = {
  config: "adapter_config.json",
  weights: "adapter_model.safetensors",
} as const;

/** In the matrices of all adapters of a graph, side by side. They are kept as float32: 1 GiB. A graph in memory must be smaller than 2 GiB. */
const VALUES_MAX = 2 ** 28;

/** Trained adapters have scales of at most about 100; with a much larger one logits are not finite, and each job fails. */
const SCALE_MAX = 10_000;

const alpha = v.pipe(v.number(), v.gtValue(0, "must be above 0"));
const rank = v.pipe(v.number(), v.integer(), v.minValue(1));

const AdapterConfig = v.object({
  use_dora: v.nullish(v.boolean(), false),
  r: rank,
  lora_alpha: alpha,
  use_rslora: v.nullish(v.boolean(), false),
  rank_pattern: v.nullish(v.record(v.string(), rank), {}),
  alpha_pattern: v.nullish(v.record(v.string(), alpha), {}),
  base_model_name_or_path: v.nullish(v.string(), null),
  target_modules: v.nullish(v.union([v.string(), v.array(v.string())]), []),
});
type AdapterConfig = v.InferOutput<typeof AdapterConfig>;

/** An adapter's configuration, with its patterns ready to be matched. */
interface Settings {
  /** The adapter's. */
  readonly folder: string;
  readonly config: AdapterConfig;
  readonly ranks: ModulePatterns;
  readonly alphas: ModulePatterns;
}

/** Initialisations that change the weights under the adapter, which therefore does not fit the antiexpert. */
const CHANGES_BASE = /^(pissa|olora|loftq|corda|lora_ga)/i;

/** Field -> whether its value is supported. Other fields do not change what an adapter computes. */
const SUPPORTED: Readonly<Record<string, (value: unknown) => boolean>> = {
  peft_type: (value) => value === "LORA",
  bias: (value) => isUnset(value) || value === "none",
  init_lora_weights: (value) => typeof value !== "string" || !CHANGES_BASE.test(value),
  ...Object.fromEntries(
    [
      "modules_to_save",
      "lora_bias",
      "ensure_weight_tying",
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
}

/** The adapters of one graph. @throws AdapterError as `readAdapter`, also if they have more than `valuesMax` values together */
export function readAdapters(folders: readonly string[], valuesMax = VALUES_MAX): Adapter[] {
  const sizes: AdapterSizes[] = [];
  return folders.map((folder) =>
    ofAdapter(folder, () =>
      readAdapter(folder, (own) => {
        sizes.push(own);
        checkAdapters(sizes, valuesMax);
      }),
    ),
  );
}

/** @param adapters of a graph @throws Error with the limit if they have too many values */
export function checkAdapters(adapters: readonly AdapterSizes[], valuesMax = VALUES_MAX): void {
  const values = stackedValues(adapters);
  if (values <= valuesMax) return;
  throw new Error(
    `with it the adapters of its graph have ${values} values, with each rank rounded up to a multiple of 16, more than ${valuesMax}: ${MERGE}`,
  );
}

/** @throws Error with file, field and reason if an adapter cannot be read or is not supported */
export function readAdapter(
  folder: string,
  check: (sizes: AdapterSizes) => void = (sizes) => checkAdapters([sizes]),
): Adapter {
  checkFiles(folder);
  const settings = readSettings(folder);
  const file = join(folder, ADAPTER_FILES.weights);
  try {
    const tensors = readSafetensors(file, (shapes) => check(sizesOf(shapes)));
    return { modules: modulesOf(tensors, settings), config: settings.config };
  } catch (error) {
    throw new Error(`${file}: ${(error as Error).message}`, { cause: error });
  }
}

function checkFiles(folder: string): void {
  if (!existsSync(folder)) throw new Error(`${folder}: there is no such folder of an adapter`);
  const missing = Object.values(ADAPTER_FILES).find((name) => !existsSync(join(folder, name)));
  if (missing === undefined) return;
  const hint =
    missing === ADAPTER_FILES.weights && existsSync(join(folder, "adapter_model.bin"))
      ? ": adapter_model.bin is there, but only safetensors are read, so save it with `safe_serialization=True`"
      : "";
  throw new Error(`${folder}: the adapter's folder has no ${missing}${hint}`);
}

function readSettings(folder: string): Settings {
  const file = join(folder, ADAPTER_FILES.config);
  const config = readAdapterConfig(file);
  const patternsOf = (field: "rank_pattern" | "alpha_pattern") => {
    try {
      return modulePatterns(config[field]);
    } catch (error) {
      throw new Error(`${file}: ${field} ${(error as Error).message}`, { cause: error });
    }
  };
  return { folder, config, ranks: patternsOf("rank_pattern"), alphas: patternsOf("alpha_pattern") };
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

/** `base_model.model.` stands before each path; `default` is the adapter's name in older files, and magnitudes have no `weight` there. */
const TENSOR_NAME =
  /^base_model\.model\.(.{1,512})\.lora_(?:([AB])(?:\.default)?\.weight|(magnitude_vector)(?:\.default)?(?:\.weight)?)$/;

/** The matrices of a module, and with DoRA its magnitudes. */
type Side = "A" | "B" | "magnitude";
type Sides = Partial<Record<Side, Tensor | undefined>>;

/** @throws Error that names a tensor which is no matrix of LoRA */
function sizesOf(shapes: readonly TensorShape[]): AdapterSizes {
  const sizes = new Map<string, ModuleSizes>();
  for (const tensor of shapes) {
    const { path, side } = readName(tensor);
    if (side === "magnitude") continue;
    const [rows, columns] = tensor.shape as [number, number];
    const { rank, inputs, outputs } = sizes.get(path) ?? { rank: 0, inputs: 0, outputs: 0 };
    // The larger one, should a file have two matrices of one name.
    const own =
      side === "A"
        ? { rank: rows, inputs: columns, outputs: 0 }
        : { rank: columns, inputs: 0, outputs: rows };
    sizes.set(path, {
      rank: Math.max(rank, own.rank),
      inputs: Math.max(inputs, own.inputs),
      outputs: Math.max(outputs, own.outputs),
    });
  }
  return sizes;
}

function readName({ name, shape }: TensorShape): { path: string; side: Side } {
  const [, path, matrix] = TENSOR_NAME.exec(name) ?? [];
  if (path === undefined || shape.length !== (matrix ? 2 : 1)) {
    throw new Error(`${name} [${shape.join(", ")}] is no matrix of LoRA: ${MERGE}`);
  }
  return { path, side: matrix ? (matrix as "A" | "B") : "magnitude" };
}

function modulesOf(tensors: readonly Tensor[], settings: Settings): LoraModules {
  const matrices = new Map<string, Sides>();
  for (const tensor of tensors) {
    const { path, side } = readName(tensor);
    if (!tensor.values.every(Number.isFinite)) {
      throw new Error(`${tensor.name} has values that are not finite`);
    }
    matrices.set(path, { ...matrices.get(path), [side]: tensor });
  }
  if (matrices.size === 0) throw new Error("it has no tensors");
  return new Map(
    Array.from(matrices, ([path, sides]) => [path, toModule(path, sides, settings)] as const),
  );
}

function toModule(
  path: string,
  { A, B, magnitude }: Sides,
  { folder, config, ranks, alphas }: Settings,
): LoraModule {
  if (!A || !B) throw new Error(`${path} has only one of lora_A and lora_B`);
  const [rankOfA, inputs] = A.shape as [number, number];
  const [outputs, rankOfB] = B.shape as [number, number];
  const r = valueFor(ranks, path) ?? config.r;
  if (rankOfA !== r || rankOfB !== r) {
    throw new Error(
      `${path} has the ranks ${rankOfA} and ${rankOfB}, but by r and rank_pattern of ${ADAPTER_FILES.config} it is ${r}`,
    );
  }
  const ownAlpha = valueFor(alphas, path);
  const scale = (ownAlpha ?? config.lora_alpha) / (config.use_rslora ? Math.sqrt(r) : r);
  if (scale > SCALE_MAX) {
    const field = ownAlpha === undefined ? "lora_alpha" : "alpha_pattern";
    throw new Error(
      `${path} has the scale ${scale} by ${field} of ${ADAPTER_FILES.config}, more than ${SCALE_MAX}`,
    );
  }
  checkMagnitude(path, magnitude, config.use_dora ? outputs : 0);
  const matrices = { folder, rank: r, inputs, outputs, scale, a: A.values, b: B.values };
  return magnitude ? { ...matrices, magnitude: magnitude.values } : matrices;
}

/** @param count of magnitudes that the module must have */
function checkMagnitude(path: string, magnitude: Tensor | undefined, count: number): void {
  const own = magnitude?.values.length ?? 0;
  if (own === count) return;
  throw new Error(
    `${path} has ${own} magnitudes, but by use_dora of ${ADAPTER_FILES.config} it has ${count}`,
  );
}
