/** `npm run models -- check MANIFEST`: what a worker would refuse or run slowly, as a table and as JSON. */
import { writeFileSync } from "node:fs";
import { relative, resolve } from "node:path";
import { totalmem } from "node:os";
import { checkManifest } from "../../worker/engine/check/check.ts";
import type {
  CheckReport,
  EnsembleReport,
  GraphReport,
  ModelReport,
} from "../../worker/engine/check/report.ts";
import { ROLES } from "../../worker/engine/model/ensemble-tokenizers.ts";
import { readEnv } from "../../worker/env.ts";

export interface CheckOptions {
  readonly json?: string;
  readonly memoryMib?: number;
}

const MIB = 2 ** 20;

/** @returns whether a worker would start */
export async function check(manifest: string, options: CheckOptions): Promise<boolean> {
  // The other variables have defaults, and no Redis is needed here.
  const env = readEnv({ REDIS_URL: "redis://localhost", ...process.env });
  const report = await checkManifest(resolve(manifest), {
    slots: env.SLOTS,
    kvCacheMib: env.KV_CACHE_MIB,
    prefixCacheMib: env.PREFIX_CACHE_MIB,
    preparedFolder: env.PREPARED_FOLDER ?? null,
    executionProvider: env.EXECUTION_PROVIDER,
    memoryBytes: options.memoryMib === undefined ? machineMemory() : options.memoryMib * MIB,
  });
  if (options.json !== undefined)
    writeFileSync(options.json, `${JSON.stringify(report, null, 2)}\n`);
  print(report);
  return report.ok;
}

/** A container may have less than the machine. */
function machineMemory(): number {
  const limit = process.constrainedMemory();
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem();
}

function print({ ensembles, problems, memory, ok }: CheckReport): void {
  for (const ensemble of ensembles) printEnsemble(ensemble);
  for (const { severity, ensemble, role, message } of problems) {
    const place = [ensemble, role].filter((part) => part !== null).join(", ");
    console.log(`${severity}: ${place === "" ? "" : `${place}: `}${message}`);
  }
  const [weights, caches, tokenizers, needed, available] = [
    memory.weights,
    memory.caches,
    memory.tokenizers,
    memory.needed,
    memory.available,
  ].map((bytes) => Math.ceil(bytes / MIB));
  console.log(
    `memory: about ${needed} of ${available} MiB (weights ${weights}, KV caches ${caches}, tokenizers ${tokenizers})`,
  );
  const errors = problems.filter(({ severity }) => severity === "error").length;
  console.log(ok ? "A worker would start." : `A worker would not start: ${errors} errors.`);
}

function printEnsemble({ id, models, contextTokens, jobTokensMax }: EnsembleReport): void {
  const job = jobTokensMax === null ? "" : `, KV caches for jobs of ${jobTokensMax}`;
  console.log(`${id}: context ${contextTokens ?? "without a bound"}${job}`);
  const rows = ROLES.map((role) => cells(role, models[role]));
  const table = [["", "graph", "MiB", "form", "context", "end tokens", "chat template"], ...rows];
  const widths = table[0]!.map((_, column) => Math.max(...table.map((row) => row[column]!.length)));
  for (const row of table) {
    console.log(`  ${row.map((cell, i) => cell.padEnd(widths[i]!)).join("  ")}`.trimEnd());
  }
}

function cells(role: string, model: ModelReport) {
  const { graph, adapter, folder, contextTokens, eosIds, chatTemplate } = model;
  const files = adapter ?? graph;
  return [
    role,
    relative(".", adapter?.folder ?? graph?.file ?? folder),
    files ? String(Math.ceil(files.bytes / MIB)) : "",
    adapter
      ? `adapter of rank ${adapter.rankMax}, ${adapter.modules} modules`
      : graph
        ? formText(graph)
        : "",
    String(contextTokens ?? "?"),
    eosIds.length === 0 ? "none" : eosIds.join(" "),
    chatTemplate ?? "none",
  ];
}

/** A form that was not compared yet may still turn out to change logits. */
function formText({ form, isCompared }: GraphReport): string {
  const name = form.variant === "original" ? "original (slow)" : form.variant;
  return isCompared || form.reason !== null ? name : `${name} expected`;
}
