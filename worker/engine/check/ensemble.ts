/** Checks one ensemble of a manifest. */
import { contextOf, type Context } from "../model/context.ts";
import {
  ROLES,
  perRole,
  templateWarnings,
  type PerRole,
  type Role,
} from "../model/ensemble-tokenizers.ts";
import { isRemote, type EnsembleEntry, type ModelEntry } from "../model/manifest.ts";
import { readConfig, type ModelConfig } from "../model/model-config.ts";
import { ModelTokenizer, type SharedTokenizers } from "../model/tokenizer.ts";
import { chooseToolFormat } from "../model/tool-format.ts";
import { commonVocabulary } from "../model/vocabulary.ts";
import { checkAdapter } from "./adapter.ts";
import { checkGraph } from "./graph.ts";
import { jobTokensMax, type Resources } from "./memory.ts";
import type { AdapterReport, EnsembleReport, GraphReport, ModelReport, Problem } from "./report.ts";

/** Adds a problem to the report. */
export type Add = (severity: Problem["severity"], role: Role | null, message: string) => void;

interface CheckContext {
  readonly add: Add;
  readonly shared: SharedTokenizers;
  readonly resources: Resources;
}

/** @throws nothing: what is wrong becomes a problem of the report */
export async function checkEnsemble(
  entry: EnsembleEntry,
  { add, shared, resources }: CheckContext,
): Promise<EnsembleReport> {
  if (entry.alpha > entry.alphaMax) {
    add("error", null, `alpha ${entry.alpha} is greater than alphaMax ${entry.alphaMax}`);
  }
  const read = <T>(role: Role, from: () => T): T | null => orProblem(add, role, from);
  const tokenizers = perRole((role) =>
    read(role, () => new ModelTokenizer(entry[role].path, entry[role], shared)),
  );
  const configs = perRole((role) => read(role, () => readConfig(entry[role].path)));
  const vocabSize = checkVocabularies(tokenizers, add);
  checkTemplates(entry, tokenizers, add);
  if (vocabSize !== null) checkEndTokens(configs, vocabSize, add);
  const models = {} as Record<Role, ModelReport>;
  for (const role of ROLES) {
    const graph = await readGraph(entry, role, configs[role], { add, resources });
    if (graph && vocabSize !== null) checkWidth(role, graph, vocabSize, add);
    const context = graph ? read(role, () => contextOf(entry[role])) : configs[role];
    models[role] = {
      folder: entry[role].path,
      graph,
      adapter: graph && read(role, () => adapterReport(entry[role], graph, resources)),
      contextTokens: checkedContext(role, context, add),
      eosIds: configs[role]?.eosIds ?? [],
      ...tokenizerReport(entry[role], tokenizers[role]),
    };
  }
  return withContext(entry, models, { add, resources });
}

function orProblem<T>(add: Add, role: Role, from: () => T): T | null {
  try {
    return from();
  } catch (error) {
    add("error", role, errorText(error));
    return null;
  }
}

function adapterReport(
  entry: EnsembleEntry["base" | "expert"],
  graph: GraphReport,
  { executionProvider }: Resources,
): AdapterReport | null {
  if (isRemote(entry) || entry.adapter === undefined) return null;
  return checkAdapter(entry.adapter, graph, executionProvider);
}

function checkedContext(role: Role, context: Context | null, add: Add): number | null {
  const { contextTokens, contextReason } = context ?? NO_CONTEXT;
  if (contextReason !== null) {
    add("warning", role, `its context ends at ${contextTokens} tokens: ${contextReason}`);
  }
  return contextTokens;
}

const NO_CONTEXT: Context = { contextTokens: null, contextReason: null };

function tokenizerReport(
  { chatTemplate }: Pick<ModelEntry, "chatTemplate">,
  tokenizer: ModelTokenizer | null,
): Pick<ModelReport, "chatTemplate" | "vocabSize"> {
  const source = chatTemplate === undefined ? "folder" : "manifest";
  return {
    chatTemplate: tokenizer?.chatTemplate ? source : null,
    vocabSize: tokenizer ? sizeOf(tokenizer.vocab) : null,
  };
}

async function readGraph(
  entry: EnsembleEntry,
  role: Role,
  config: ModelConfig | null,
  { add, resources }: Pick<CheckContext, "add" | "resources">,
): Promise<GraphReport | null> {
  const model = entry[role];
  if (isRemote(model) || !config) return null;
  try {
    const graph = await checkGraph(model, config, resources.preparedFolder);
    if (graph.form.reason !== null) {
      add("warning", role, `it runs slowly, one sequence at a time: ${graph.form.reason}`);
    }
    if (graph.isReproducible === null) {
      const message =
        "its activations are quantized: whether its outputs are reproducible is not known until it is prepared";
      add("warning", role, message);
    } else if (!graph.isReproducible) {
      add(
        "warning",
        role,
        "the same request may give another text, because its activations are quantized and its runs are not exact",
      );
    }
    return graph;
  } catch (error) {
    add("error", role, errorText(error));
    return null;
  }
}

/** @returns V; null if it is not known */
function checkVocabularies(tokenizers: PerRole<ModelTokenizer | null>, add: Add): number | null {
  const { base, expert, antiexpert } = tokenizers;
  if (!base || !expert || !antiexpert) return null;
  try {
    const [b, e, a] = [base.vocab, expert.vocab, antiexpert.vocab];
    return commonVocabulary({ base: b, expert: e, antiexpert: a }).size;
  } catch (error) {
    add("error", null, errorText(error));
    return null;
  }
}

function checkTemplates(
  entry: EnsembleEntry,
  tokenizers: PerRole<ModelTokenizer | null>,
  add: Add,
): void {
  for (const warning of templateWarnings(tokenizers)) add("warning", null, warning);
  if (!ROLES.every((role) => tokenizers[role])) return;
  try {
    const templates = perRole((role) => tokenizers[role]!.chatTemplate);
    for (const warning of chooseToolFormat(entry.toolFormat, templates).warnings) {
      add("warning", null, warning);
    }
  } catch (error) {
    add("error", null, errorText(error));
  }
}

function checkEndTokens(configs: PerRole<ModelConfig | null>, vocabSize: number, add: Add): void {
  for (const role of ROLES) {
    const ids = configs[role]?.eosIds ?? [];
    for (const id of ids.filter((eos) => eos >= vocabSize)) {
      add("error", role, `eos_token_id ${id} is outside the vocabulary of ${vocabSize} tokens`);
    }
  }
  if (ROLES.every((role) => configs[role]?.eosIds.length === 0)) {
    add(
      "warning",
      null,
      "no model has an end token: each answer has as many tokens as it may have",
    );
  }
}

function checkWidth(role: Role, { logitsWidth }: GraphReport, vocabSize: number, add: Add): void {
  if (logitsWidth === null || logitsWidth >= vocabSize) return;
  const message = `it returns ${logitsWidth} logits, fewer than the ${vocabSize} tokens of its tokenizer`;
  add("error", role, message);
}

function withContext(
  { id }: EnsembleEntry,
  models: PerRole<ModelReport>,
  { add, resources }: Pick<CheckContext, "add" | "resources">,
): EnsembleReport {
  const contexts = ROLES.flatMap((role) => models[role].contextTokens ?? []);
  const contextTokens = contexts.length === 0 ? null : Math.min(...contexts);
  for (const role of ROLES) {
    const own = models[role].contextTokens;
    if (own === null && models[role].vocabSize !== null) {
      add("warning", role, "config.json has no context length: the other models' bounds count");
    } else if (role === "base" && own !== null && own > contextTokens!) {
      const message = `its context of ${own} tokens is cut to ${contextTokens}, the shortest of the three`;
      add("warning", role, message);
    }
  }
  const tokens = jobTokensMax(models, resources);
  if (tokens !== null && contextTokens !== null && tokens < contextTokens) {
    add(
      "warning",
      null,
      `a job may have ${tokens} of ${contextTokens} tokens: KV_CACHE_MIB is ${resources.kvCacheMib}`,
    );
  }
  return { id, models, contextTokens, jobTokensMax: tokens };
}

function sizeOf(vocab: ReadonlyMap<string, number>): number {
  let size = 0;
  for (const id of vocab.values()) size = Math.max(size, id + 1);
  return size;
}

export const errorText = (error: unknown) =>
  error instanceof Error ? error.message : String(error);
