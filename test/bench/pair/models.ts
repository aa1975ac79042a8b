/** The models of the bench of pairs, and their adapters. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { LoraModule, LoraModules } from "../../../worker/engine/graph/adapter-targets.ts";
import { family } from "../models/family.ts";

export type Dtype = "fp32" | "int8";
export type MemoryForm = "one model" | "two models" | "adapter";

export const RANK = 16;

const { base, antiexpert } = family("inflated");
export const FOLDERS = { "10M": antiexpert, "98M": base } as const;
export type Size = keyof typeof FOLDERS;

/** An adapter of all modules of an inflated model, whose weights are named by layer and role. */
export function randomAdapter(folder: string): LoraModules {
  const config = JSON.parse(readFileSync(join(folder, "config.json"), "utf8")) as Record<
    string,
    number
  >;
  const { hidden_size: width = 0, intermediate_size: mlp = 0, num_hidden_layers = 0 } = config;
  const heads = config["num_attention_heads"]! * config["head_dim"]!;
  const sizes = {
    q: [width, heads],
    k: [width, heads],
    v: [width, heads],
    o: [heads, width],
    gate: [width, mlp],
    up: [width, mlp],
    down: [mlp, width],
  } as const;
  const random = (count: number) =>
    Float32Array.from({ length: count }, () => 0.02 * (Math.random() - 0.5));
  return new Map(
    Array.from({ length: num_hidden_layers }).flatMap((_, layer) =>
      Object.entries(sizes).map(([role, [inputs, outputs]]) => {
        const [a, b] = [random(RANK * inputs), random(outputs * RANK)];
        const module: LoraModule = { folder, rank: RANK, inputs, outputs, scale: 1, a, b };
        return [`layer.${layer}.${role}`, module] as const;
      }),
    ),
  );
}
