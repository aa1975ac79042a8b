/** The result of a check. It is also the JSON that `npm run models -- check --json FILE` writes. */
import type { ModuleSizes } from "../graph/adapter-targets.ts";
import type { Role } from "../model/ensemble-tokenizers.ts";
import type { GraphForm } from "../model/graph-form.ts";

/** Something that a worker would refuse (error), or that its operator should know (warning). */
export interface Problem {
  readonly severity: "error" | "warning";
  /** Null if it is about the manifest or the machine. */
  readonly ensemble: string | null;
  /** Null if it is about all three models. */
  readonly role: Role | null;
  readonly message: string;
}

export interface GraphReport {
  readonly file: string;
  /** Of the graph file and its external weights. */
  readonly bytes: number;
  /** Those of weights in bfloat16, which are cast to float32. */
  readonly bfloat16Bytes: number;
  /** The form in which it runs. */
  readonly form: GraphForm;
  /** Whether a worker or `models -- prepare` has compared this form's logits with the original's. */
  readonly isCompared: boolean;
  /** Whether its outputs are reproducible on the CPU; null: not known until it is prepared. */
  readonly isReproducible: boolean | null;
  /** Bytes of one token's keys and values. */
  readonly cacheBytesPerToken: number;
  /** Number of logits for each token; null if the graph does not declare it. */
  readonly logitsWidth: number | null;
}

/** A LoRA adapter. */
export interface AdapterReport {
  readonly folder: string;
  /** Modules that it changes. */
  readonly modules: number;
  readonly rankMax: number;
  /** The matrices of each module. */
  readonly sizes: Readonly<Record<string, ModuleSizes>>;
  /** Of its weights. */
  readonly bytes: number;
  /** The model that adapter_config.json names; null for none. */
  readonly trainedOn: string | null;
}

export interface ModelReport {
  readonly folder: string;
  /** Null for a remote base, and if it cannot be read. */
  readonly graph: GraphReport | null;
  /** The adapter with which the graph runs; null without one, and if it cannot be read. */
  readonly adapter: AdapterReport | null;
  /** Null if no bound is known. */
  readonly contextTokens: number | null;
  readonly eosIds: readonly number[];
  /** Where the chat template comes from; null if there is none. */
  readonly chatTemplate: "manifest" | "folder" | null;
  /** One more than the highest token id; null if the tokenizer cannot be read. */
  readonly vocabSize: number | null;
}

export interface EnsembleReport {
  readonly id: string;
  readonly models: Readonly<Record<Role, ModelReport>>;
  readonly contextTokens: number | null;
  /** Tokens of the longest job that fits KV_CACHE_MIB when it runs alone; null if it cannot be computed. */
  readonly jobTokensMax: number | null;
}

/** Memory in bytes. The needs are estimates. */
export interface MemoryReport {
  readonly weights: number;
  readonly caches: number;
  readonly tokenizers: number;
  readonly needed: number;
  /** The resources of this machine, or of the control group of this process. */
  readonly available: number;
}

export interface CheckReport {
  readonly manifest: string;
  /** Whether a worker would start: no problem is an error. */
  readonly ok: boolean;
  readonly problems: readonly Problem[];
  readonly ensembles: readonly EnsembleReport[];
  readonly memory: MemoryReport;
}
