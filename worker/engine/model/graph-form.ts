/** Which form a graph can run in, as far as it is known before any comparison of logits. */
import { PAST } from "../decoder/graph-io.ts";
import { attentionWindow } from "../graph/attention-window.ts";
import { inlineCacheBranch } from "../graph/cache-branch.ts";
import { hasAttentionChunks } from "../graph/attention-chunks.ts";
import type { GraphFacts } from "../graph/inspect.ts";
import { lengthSwitch } from "../graph/length-switch.ts";
import { planRewrites, type GraphRewrite } from "../graph/prepare.ts";
import type { ExecutionProvider } from "../../engine-client/messages.ts";
import type { DecoderConfig } from "./load-graph.ts";

export interface GraphForm {
  /** The rewrite with which the graph runs fast; "original" if it runs as it was exported, one sequence at a time. */
  readonly variant: GraphRewrite["variant"] | "original";
  /** Why the variant is "original"; null for the others. */
  readonly reason: string | null;
}

/**
 * True if a graph with Concat surely counts cache entries, for an attention window or for the positions of tokens; false: try both,
 * because ALiBi and windows that are not found here show only in the comparison of logits.
 */
export function countsEntries(
  facts: Pick<GraphFacts, "nodes" | "inputs" | "weights">,
  config: Pick<DecoderConfig, "hasAttentionWindow">,
): boolean {
  const hasPositions = facts.inputs.some(({ name }) => name === "position_ids");
  const nodes = inlineCacheBranch(facts.nodes);
  return (
    !hasPositions || config.hasAttentionWindow || attentionWindow({ ...facts, nodes }) !== null
  );
}

/** @throws Error with the reason and a remedy if a graph that runs so can have no adapters */
export function checkHoldsAdapters(
  { variant, reason }: GraphForm,
  executionProvider: ExecutionProvider = "cpu",
): void {
  const problem =
    executionProvider !== "cpu"
      ? `with execution provider ${executionProvider}`
      : variant === "original"
        ? `as it runs as exported (${reason})`
        : null;
  if (problem === null) return;
  throw new Error(
    `it can have no adapters ${problem}: merge them with \`npm run models -- export\``,
  );
}

export const NO_STANDARD_CACHE = "its KV cache is not [batch, heads, tokens, head size]";

/** The form that preparing a graph will give, unless the comparison of logits fails. */
export function expectedForm(
  facts: Pick<GraphFacts, "nodes" | "inputs" | "weights">,
  config: Pick<DecoderConfig, "hasAttentionChunks">,
): GraphForm {
  const names = new Set(facts.inputs.map(({ name }) => name));
  const nodes = inlineCacheBranch(facts.nodes);
  const [plan] = planRewrites(nodes, names);
  const original = (reason: string): GraphForm => ({ variant: "original", reason });
  if (!plan)
    return original("its KV cache is computed neither by Concat nor by GroupQueryAttention");
  const caches = facts.inputs.filter(({ name }) => name.startsWith(PAST));
  if (!caches.every(({ shape }) => shape.length === 4 && shape[2] === null)) {
    return original(NO_STANDARD_CACHE);
  }
  // GroupQueryAttention counts positions and windows in the tokens of a sequence, not in cache entries.
  if (plan.variant === "fused") return { variant: "fused", reason: null };
  if (config.hasAttentionChunks || hasAttentionChunks({ ...facts, nodes })) {
    return original("its attention stays within chunks of the context");
  }
  const change = lengthSwitch({ ...facts, nodes });
  // The length that it looks at has the room of the cache in it.
  if (change !== null) return original(`it computes otherwise beyond ${change} tokens`);
  return { variant: plan.variant, reason: null };
}
