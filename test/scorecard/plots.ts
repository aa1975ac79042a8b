/** Plots of the scorecard as SVG. Colours and fonts come from the page's style. */
import type { Estimate } from "./comparison.ts";
import type { SweepPoint } from "./measure.ts";

export interface Bar extends Estimate {
  readonly label: string;
  readonly className: string;
}

const WIDTH = 720;
const LABEL_WIDTH = 190;
const BAR_HEIGHT = 22;
const ROW_HEIGHT = 40;

/** Bars from 0 to 100% with their 95% intervals. */
export function barPlot(bars: readonly Bar[]): string {
  const right = WIDTH - 60;
  const x = (percent: number) => LABEL_WIDTH + ((right - LABEL_WIDTH) * percent) / 100;
  const height = bars.length * ROW_HEIGHT + 30;
  const rows = bars.map(({ label, className, value, interval: [low, high] }, i) => {
    const top = i * ROW_HEIGHT + 8;
    const middle = top + BAR_HEIGHT / 2;
    return `<text x="${LABEL_WIDTH - 12}" y="${middle + 5}" text-anchor="end">${escape(label)}</text>
<rect class="${className}" x="${x(0)}" y="${top}" width="${Math.max(1, x(value) - x(0))}" height="${BAR_HEIGHT}" rx="2"/>
<path class="whisker" d="M${x(low)} ${middle}H${x(high)}M${x(low)} ${middle - 6}v12M${x(high)} ${middle - 6}v12"/>
<text class="value" x="${Math.max(x(value), x(high)) + 8}" y="${middle + 5}">${value.toFixed(1)}</text>`;
  });
  const ticks = [0, 25, 50, 75, 100].map(
    (tick) =>
      `<path class="grid" d="M${x(tick)} 0V${height - 24}"/><text class="tick" x="${x(tick)}" y="${height - 6}" text-anchor="middle">${tick}%</text>`,
  );
  return svg(height, "Right answers of each system, in percent, with 95% intervals", [
    ...ticks,
    ...rows,
  ]);
}

/** Right answers by alpha with their interval, and the share of changed tokens. */
export function sweepPlot(
  sweep: readonly SweepPoint[],
  alpha: { readonly best: number; readonly configured: number },
): string {
  const [left, right, top, bottom] = [50, WIDTH - 130, 14, 250];
  const alphas = sweep.map((point) => point.alpha);
  const [first, last] = [Math.min(...alphas), Math.max(...alphas)];
  const x = (value: number) =>
    first === last
      ? (left + right) / 2
      : left + ((right - left) * (value - first)) / (last - first);
  const y = (percent: number) => bottom - ((bottom - top) * percent) / 100;
  const line = (of: (point: SweepPoint) => number) =>
    sweep.map((point) => `${x(point.alpha).toFixed(1)},${y(of(point)).toFixed(1)}`).join(" ");
  const band = [
    ...sweep.map(({ alpha, interval: [, high] }) => `${x(alpha)},${y(high)}`),
    ...sweep.toReversed().map(({ alpha, interval: [low] }) => `${x(alpha)},${y(low)}`),
  ].join(" ");
  const end = sweep.at(-1)!;
  // The two labels at the right must not cover each other.
  const [valueY, changedY] = apart(y(end.value), y(end.intervention));
  const dots = sweep.map(
    (point) =>
      `<circle class="dot${point.alpha === alpha.best ? " chosen" : ""}" cx="${x(point.alpha)}" cy="${y(point.value)}" r="${point.alpha === alpha.best ? 6 : 3.5}"><title>alpha ${point.alpha}: ${point.value.toFixed(1)}% right, ${point.intervention.toFixed(1)}% of the tokens changed, KL ${point.kl.toFixed(2)}</title></circle>`,
  );
  const grid = [0, 25, 50, 75, 100].map(
    (tick) =>
      `<path class="grid" d="M${left} ${y(tick)}H${right}"/><text class="tick" x="${left - 8}" y="${y(tick) + 4}" text-anchor="end">${tick}%</text>`,
  );
  const ticks = alphas.map(
    (value) =>
      `<text class="tick" x="${x(value)}" y="${bottom + 20}" text-anchor="middle">${value}${value === alpha.configured ? "*" : ""}</text>`,
  );
  return svg(bottom + 46, "Right answers and changed tokens for each alpha on the dev split", [
    ...grid,
    ...ticks,
    `<text class="tick" x="${(left + right) / 2}" y="${bottom + 40}" text-anchor="middle">alpha (* of the manifest)</text>`,
    `<polygon class="band" points="${band}"/>`,
    `<polyline class="line changed" points="${line(({ intervention }) => intervention)}"/>`,
    `<polyline class="line right" points="${line(({ value }) => value)}"/>`,
    ...dots,
    `<text class="value" x="${right + 10}" y="${valueY}">right answers</text>`,
    `<text class="muted" x="${right + 10}" y="${changedY}">changed tokens</text>`,
  ]);
}

function apart(one: number, other: number): [number, number] {
  if (Math.abs(one - other) >= 18) return [one + 4, other + 4];
  return one <= other ? [one - 5, one + 13] : [other + 13, other - 5];
}

const svg = (height: number, title: string, parts: readonly string[]) =>
  `<svg viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="${title}">${parts.join("\n")}</svg>`;

/** Text for HTML, also inside attributes. */
export function escape(text: string): string {
  const entities: Record<string, string> = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    '"': "&quot;",
  };
  return text.replaceAll(/[&<>"]/g, (character) => entities[character]!);
}
