/** Prints results as tables with aligned columns. */
import type { BenchCase } from "./plan.ts";
import type { ResultRow } from "./results.ts";
import type { Summary } from "./statistics.ts";

const ENGINE_LABELS: Record<string, string> = {
  "transformers base": "transformers.js, base only",
  "naive proxy": "onnxruntime unchanged, three models",
  "llama base": "llama.cpp, base only",
  "trimtab base": "trimtab, base only",
  "trimtab proxy": "trimtab, proxy-tuned",
  "trimtab speculative": "trimtab, proxy-tuned, speculative",
};

const engineLabel = ({ engine, mode }: BenchCase) => ENGINE_LABELS[`${engine} ${mode}`]!;

/** One line per row; `speed` is relative to transformers.js with the base alone, same format and context. */
export function printResults(rows: readonly ResultRow[]): void {
  const head = [
    "format",
    "context",
    "batch",
    "engine",
    "ms/token",
    "range",
    "tokens/s",
    "speed",
    "first token ms",
    "prefill tokens/s",
    "memory-bound ms",
    "accepted drafts",
  ];
  const lines = rows.map((row) => {
    const {
      dtype,
      context,
      batch,
      tokenMs,
      tokensPerSecond,
      firstTokenMs,
      prefillTokensPerSecond,
      memoryBoundMs,
      acceptance,
      reason,
    } = row;
    const start = [dtype, String(context), String(batch), engineLabel(row)];
    if (!tokenMs) return [...start, `not run: ${reason ?? "unknown reason"}`];
    const reference = rows.find(
      (other) =>
        other.engine === "transformers" && other.dtype === dtype && other.context === context,
    );
    return [
      ...start,
      formatNumber(tokenMs.median),
      `${formatNumber(tokenMs.min)} - ${formatNumber(tokenMs.max)}`,
      (tokensPerSecond?.median ?? 0).toFixed(0),
      reference?.tokenMs ? `${(reference.tokenMs.median / tokenMs.median).toFixed(2)}x` : "",
      firstTokenMs ? firstTokenMs.median.toFixed(0) : "",
      prefillTokensPerSecond ? prefillTokensPerSecond.median.toFixed(0) : "",
      formatNumber(memoryBoundMs),
      acceptance === null ? "" : acceptance.toFixed(2),
    ];
  });
  printLines([head, ...lines]);
}

/** Prints columns: words left-aligned, numbers right-aligned. Lines with fewer cells than the head do not widen columns. */
export function printLines(lines: readonly (readonly string[])[]): void {
  const complete = lines.filter((line) => line.length === lines[0]!.length);
  const widths = lines[0]!.map((_, column) =>
    Math.max(...complete.map((line) => line[column]!.length)),
  );
  for (const line of lines) {
    const cells = line.map((cell, i) =>
      /^[\d.]+( - [\d.]+|x| ms)?$/.test(cell) ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!),
    );
    console.log(`  ${cells.join("  ").trimEnd()}`);
  }
}

export const formatNumber = (value: number) => value.toFixed(value < 10 ? 2 : 1);
export const formatRange = ({ median, min, max }: Summary) =>
  `${median.toFixed(2)} (${min.toFixed(2)} - ${max.toFixed(2)})`;
