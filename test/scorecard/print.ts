/** Prints a scorecard as tables. */
import type { Estimate } from "./comparison.ts";
import type { Scorecard, SystemName, UnlabelledReport } from "./measure.ts";
import type { Verdict } from "./verdict.ts";

export const SYSTEM_NAMES: Readonly<Record<SystemName, string>> = {
  base: "base alone",
  expert: "expert alone",
  proxy: "proxy-tuned",
  tuned: "base tuned directly",
};

export function printScorecard(scorecard: Scorecard): void {
  const { ensemble, questions, systems, sweep, steering, damage, speed, alpha } = scorecard;
  console.log(
    `\n${ensemble}: right answers in % of ${questions.test} questions (alpha chosen on ${questions.dev} others)\n`,
  );
  printRows([
    ["system", "right %", "95% interval", "ends %"],
    ...Object.entries(systems).map(([name, system]) => [
      name === "proxy"
        ? `${SYSTEM_NAMES.proxy}, alpha ${alpha.best}`
        : SYSTEM_NAMES[name as SystemName],
      system.value.toFixed(1),
      interval(system),
      system.ends.toFixed(1),
    ]),
    ...(scorecard.gapClosed
      ? [["gap closed", scorecard.gapClosed.value.toFixed(1), interval(scorecard.gapClosed), ""]]
      : []),
  ]);
  console.log("\n  dev split, for each alpha");
  printRows([
    ["alpha", ...sweep.map((point) => String(point.alpha))],
    ["right %", ...sweep.map(({ value }) => value.toFixed(1))],
    ["changed tokens %", ...sweep.map(({ intervention }) => intervention.toFixed(1))],
  ]);
  console.log(
    `\n  changed tokens ${steering.intervention.toFixed(1)}%, KL ${steering.kl.toFixed(2)} nats a token`,
  );
  if (damage) {
    const { broken, same } = damage;
    console.log(
      `  control set of ${damage.questions}: ${broken ? `${broken.value.toFixed(1)}% broken (${interval(broken)}), ` : ""}${same.value.toFixed(1)}% of the answers unchanged`,
    );
  }
  const { acceptance } = speed;
  console.log(
    `  one answer at a time: base ${speed.baseTokensPerSecond.toFixed(0)} tokens/s, proxy-tuned ${speed.proxyTokensPerSecond.toFixed(0)}${acceptance === null ? "" : `, ${acceptance.toFixed(0)}% of the drafted tokens accepted`}`,
  );
  printVerdict(scorecard.verdict);
}

export function printUnlabelled(report: UnlabelledReport, verdict: Verdict): void {
  const { ensemble, alpha, prompts, steering, confidence } = report;
  console.log(`\n${ensemble}, alpha ${alpha}: ${prompts} prompts without answers\n`);
  printRows([
    ["", "base", "expert", "proxy-tuned"],
    [
      "mean confidence %",
      ...[confidence.base, confidence.expert, confidence.proxy].map((value) => value.toFixed(1)),
    ],
  ]);
  console.log(
    `\n  changed tokens ${steering.intervention.toFixed(1)}%, KL ${steering.kl.toFixed(2)} nats a token`,
  );
  console.log(
    `  answers as the expert's ${report.sameAsExpert.value.toFixed(1)}%, as the base's ${report.sameAsBase.value.toFixed(1)}%`,
  );
  printVerdict(verdict);
}

function printVerdict({ headline, reasons }: Verdict): void {
  console.log(`\n  ${headline}`);
  for (const reason of reasons) console.log(`  - ${reason}.`);
}

export const interval = ({ interval: [low, high] }: Estimate) =>
  `${low.toFixed(1)} to ${high.toFixed(1)}`;

function printRows(rows: readonly (readonly string[])[]): void {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  for (const [label = "", ...rest] of rows) {
    const aligned = rest.map((cell, i) => cell.padStart(widths[i + 1]!));
    console.log(`  ${label.padEnd(widths[0]!)}  ${aligned.join("  ")}`);
  }
}
