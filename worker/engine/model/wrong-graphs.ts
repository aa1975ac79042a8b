/** Exports that are known to compute otherwise than their model. Their logits would be wrong without any error. */
import type { GraphFacts } from "../graph/inspect.ts";
import { hasSoftCap } from "../graph/soft-cap.ts";
import type { ModelConfig } from "./model-config.ts";

/** @throws Error with the reason and a remedy */
export function refuseWrongGraph(
  config: Pick<ModelConfig, "modelType" | "hasSoftCap" | "hasAlibi">,
  facts: Pick<GraphFacts, "nodes">,
): void {
  if (config.hasSoftCap && !hasSoftCap(facts)) {
    throw new Error(
      "config.json has attn_logit_softcapping, but the graph does not cap attention scores, so its logits are wrong: export it with eager attention",
    );
  }
  // The mask of an export has no linear biases; only Falcon's first family (falcon-rw) has them.
  if (config.modelType === "falcon" && config.hasAlibi) {
    throw new Error(
      "Falcon with ALiBi: exports do not have the biases of its attention, so its logits are wrong from the first token on. Use a Falcon with rotary positions",
    );
  }
}
