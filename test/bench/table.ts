/** The results for people. */
import type { Row } from "./results.ts";
import type { Figure } from "./statistics.ts";
import type { Case } from "./plan.ts";

const NAMES: Record<string, string> = {
  "transformers base": "transformers.js, base only",
  "naive proxy": "onnxruntime naive, 3 models",
  "llama base": "llama.cpp, base only",
  "ours base": "ours, base only",
  "ours proxy": "ours, proxy-tuned",
  "ours speculative": "ours, proxy-tuned, drafting",
};

export const nameOf = ({ engine, mode }: Case) => NAMES[`${engine} ${mode}`]!;

/** One line per row; `speed` is relative to transformers.js with the base alone, same format and context. */
export function printRows(rows: readonly Row[]): void {
  const head = [
    "format",
    "context",
    "batch",
    "engine",
    "ms/token",
    "range",
    "tok/s",
    "speed",
    "first ms",
    "prefill tok/s",
    "floor ms",
    "accepted",
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
      floorMs,
      acceptance,
      reason,
    } = row;
    const start = [dtype, String(context), String(batch), nameOf(row)];
    if (!tokenMs) return [...start, `not run: ${reason ?? "?"}`];
    const peer = rows.find(
      (other) =>
        other.engine === "transformers" && other.dtype === dtype && other.context === context,
    );
    return [
      ...start,
      short(tokenMs.median),
      `${short(tokenMs.min)} - ${short(tokenMs.max)}`,
      (tokensPerSecond?.median ?? 0).toFixed(0),
      peer?.tokenMs ? `${(peer.tokenMs.median / tokenMs.median).toFixed(2)}x` : "",
      firstTokenMs ? firstTokenMs.median.toFixed(0) : "",
      prefillTokensPerSecond ? prefillTokensPerSecond.median.toFixed(0) : "",
      short(floorMs),
      acceptance === null ? "" : acceptance.toFixed(2),
    ];
  });
  printLines([head, ...lines]);
}

/** Left-aligned words, right-aligned numbers. */
export function printLines(lines: readonly (readonly string[])[]): void {
  const whole = lines.filter((line) => line.length === lines[0]!.length);
  const widths = lines[0]!.map((_, column) =>
    Math.max(...whole.map((line) => line[column]!.length)),
  );
  for (const line of lines) {
    const cells = line.map((cell, i) =>
      /^[\d.]+( - [\d.]+|x| ms)?$/.test(cell) ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!),
    );
    console.log(`  ${cells.join("  ").trimEnd()}`);
  }
}

export const short = (value: number) => value.toFixed(value < 10 ? 2 : 1);
export const span = ({ median, min, max }: Figure) =>
  `${median.toFixed(2)} (${min.toFixed(2)} - ${max.toFixed(2)})`;
