/** The scorecard as one HTML page, which loads nothing. */
import type { Damage, Difference } from "./comparison.ts";
import type { Sample, Scorecard, SystemName, UnlabelledReport } from "./measure.ts";
import { barPlot, escape, sweepPlot } from "./plots.ts";
import { interval, SYSTEM_NAMES } from "./print.ts";
import { STYLE } from "./style.ts";
import type { Verdict } from "./verdict.ts";

/** Answers of each kind that are shown. */
const SHOWN_SAMPLES = 5;

type Settings = Readonly<Record<string, string>>;

export function scorecardPage(scorecard: Scorecard, settings: Settings): string {
  const { ensemble, systems, alpha, sweep, questions, damage, samples } = scorecard;
  const bars = Object.entries(systems).map(([name, system]) => ({
    ...system,
    className: name,
    label: name === "proxy" ? `proxy-tuned, alpha ${alpha.best}` : SYSTEM_NAMES[name as SystemName],
  }));
  return page(`Scorecard of ${ensemble}`, scorecard.verdict, [
    section(
      "Right answers",
      `${questions.test} questions. Alpha was chosen on ${questions.dev} others. Lines are 95% intervals.`,
      barPlot(bars) + differences(scorecard),
    ),
    section(
      "Alpha",
      `${questions.dev} questions of the dev split. The band is the 95% interval; the large dot is the alpha that the other results use.`,
      sweepPlot(sweep, alpha),
    ),
    section("What steering does", "At this alpha, on the test questions.", figures(scorecard)),
    ...(damage ? [damageSection(damage)] : []),
    samplesSection(
      "Worst: steering loses a right answer",
      samples.filter(({ right }) => !right.proxy && (right.base || right.expert)),
    ),
    samplesSection(
      "Best: only the proxy-tuned base is right",
      samples.filter(({ right }) => right.proxy && !right.base && !right.expert),
    ),
    samplesSection(
      "Nobody is right",
      samples.filter(({ right }) => !right.proxy && !right.base && !right.expert),
    ),
    settingsSection(settings),
  ]);
}

export function unlabelledPage(
  report: UnlabelledReport,
  verdict: Verdict,
  settings: Settings,
): string {
  const { ensemble, alpha, prompts, steering, confidence, predictedGain } = report;
  const changed = report.samples.filter(({ texts }) => texts.proxy !== texts.base);
  return page(`Scorecard of ${ensemble}, without answers`, verdict, [
    section(
      "What the models' confidence says",
      `${prompts} prompts, alpha ${alpha}. Confidence is the mean probability of an answer's tokens, 0 for an answer that does not end.`,
      cards([
        ["predicted gain", `${signed(predictedGain.value)} points`, interval(predictedGain)],
        [
          "changed tokens",
          `${steering.intervention.toFixed(1)}%`,
          "above about 20% pairs tend to fail",
        ],
        ["KL(steered || base)", `${steering.kl.toFixed(2)} nats`, "a token"],
        ["confidence, base", `${confidence.base.toFixed(1)}%`, ""],
        ["confidence, expert", `${confidence.expert.toFixed(1)}%`, ""],
        ["confidence, proxy-tuned", `${confidence.proxy.toFixed(1)}%`, ""],
        [
          "answers as the expert's",
          `${report.sameAsExpert.value.toFixed(1)}%`,
          interval(report.sameAsExpert),
        ],
        [
          "answers as the base's",
          `${report.sameAsBase.value.toFixed(1)}%`,
          interval(report.sameAsBase),
        ],
      ]),
    ),
    samplesSection(
      "Answers that steering changes",
      changed.map((sample) => ({ ...sample, answers: [], right: {} })),
    ),
    settingsSection(settings),
  ]);
}

function page(title: string, { decision, headline, reasons }: Verdict, parts: string[]): string {
  const kind = decision === "serve" ? "good" : decision === "do not" ? "bad" : "open";
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escape(title)}</title>
<style>${STYLE}</style>
</head>
<body>
<main>
<header><p class="muted">${escape(title)}</p>
<div class="verdict ${kind}"><h1>${escape(headline)}</h1>
<ul>${reasons.map((reason) => `<li>${escape(reason)}.</li>`).join("")}</ul></div></header>
${parts.join("\n")}
</main>
</body>
</html>
`;
}

const section = (title: string, note: string, body: string) =>
  `<section><h2>${escape(title)}</h2><p class="muted">${escape(note)}</p>${body}</section>`;

function differences({ proxyMinusBase, proxyMinusExpert, proxyMinusTuned, gapClosed }: Scorecard) {
  const row = (label: string, value: Difference | null) =>
    value === null
      ? ""
      : `<tr><td>${label}</td><td class="number">${signed(value.value)}</td><td class="number">${value.interval.map(signed).join(" to ")}</td></tr>`;
  const gap =
    gapClosed === null
      ? ""
      : `<tr><td>gap closed, of that between base and tuned base</td><td class="number">${gapClosed.value.toFixed(1)}%</td><td class="number">${interval(gapClosed)}</td></tr>`;
  return `<table><thead><tr><th>compared on the same questions</th><th class="number">points</th><th class="number">95% interval</th></tr></thead><tbody>
${row("proxy-tuned, minus the base alone", proxyMinusBase)}
${row("proxy-tuned, minus the expert alone", proxyMinusExpert)}
${row("proxy-tuned, minus the base tuned directly", proxyMinusTuned)}
${gap}</tbody></table>`;
}

function figures({ steering, speed }: Scorecard): string {
  const { acceptance, baseTokensPerSecond: base, proxyTokensPerSecond: proxy } = speed;
  return cards([
    [
      "changed tokens",
      `${steering.intervention.toFixed(1)}%`,
      "above about 20% pairs tend to fail",
    ],
    ["agreement with the base", `${(100 - steering.intervention).toFixed(1)}%`, "of the tokens"],
    ["KL(steered || base)", `${steering.kl.toFixed(2)} nats`, "a token"],
    ["speed, base alone", `${base.toFixed(0)} tokens/s`, "one answer at a time"],
    [
      "speed, proxy-tuned",
      `${proxy.toFixed(0)} tokens/s`,
      `${(proxy / base).toFixed(2)} of the base`,
    ],
    [
      "accepted drafts",
      acceptance === null ? "none" : `${acceptance.toFixed(0)}%`,
      "of the drafted tokens",
    ],
  ]);
}

function damageSection({ questions, base, proxy, broken, same }: Damage): string {
  return section(
    "What steering breaks",
    `${questions} control questions, which the pair is not for.`,
    cards([
      ...(broken
        ? [
            [
              "broken",
              `${broken.value.toFixed(1)}%`,
              `${interval(broken)}, of what the base answers right`,
            ] as const,
          ]
        : []),
      ...(base && proxy
        ? [
            ["right, base alone", `${base.value.toFixed(1)}%`, interval(base)] as const,
            ["right, proxy-tuned", `${proxy.value.toFixed(1)}%`, interval(proxy)] as const,
          ]
        : []),
      ["unchanged answers", `${same.value.toFixed(1)}%`, interval(same)],
    ]),
  );
}

type Card = readonly [label: string, value: string, note: string];

const cards = (all: readonly Card[]) =>
  `<div class="cards">${all
    .map(
      ([label, value, note]) =>
        `<div><p class="muted">${escape(label)}</p><p class="figure">${escape(value)}</p><p class="muted small">${escape(note)}</p></div>`,
    )
    .join("")}</div>`;

function samplesSection(title: string, samples: readonly Sample[]): string {
  const shown = samples.slice(0, SHOWN_SAMPLES);
  const count = samples.length === 0 ? "None." : `${shown.length} of ${samples.length} questions.`;
  return section(title, count, shown.map(sampleHtml).join(""));
}

function sampleHtml({ prompt, answers, texts, right }: Sample): string {
  const columns = (Object.keys(texts) as SystemName[]).map((name) => {
    const isRight = right[name];
    const mark = isRight === undefined ? "" : isRight ? " ✓" : " ✗";
    const kind = isRight === undefined ? "" : isRight ? "yes" : "no";
    return `<div class="${kind}"><p class="muted small">${SYSTEM_NAMES[name]}${mark}</p><p class="text">${escape(texts[name]!.trim()) || "<i>empty</i>"}</p></div>`;
  });
  const expected =
    answers.length === 0 ? "" : `<span class="muted"> → ${escape(answers.join(" or "))}</span>`;
  return `<article><p class="prompt">${escape(prompt)}${expected}</p><div class="sides">${columns.join("")}</div></article>`;
}

function settingsSection(settings: Settings): string {
  const rows = Object.entries(settings).map(
    ([name, value]) => `<tr><td>${escape(name)}</td><td>${escape(value)}</td></tr>`,
  );
  return section(
    "How it was measured",
    "Greedy answers from the worker's decode loop.",
    `<table><tbody>${rows.join("")}</tbody></table>`,
  );
}

const signed = (value: number) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(1)}`;
