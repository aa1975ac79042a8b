/** The last hour as small charts, one bar a minute. */
import type { Activity } from "../../../shared/api/activity.ts";
import { element } from "../../play/client/dom.ts";
import { decimal, duration, integer } from "./format.ts";
import type { Part } from "./part.ts";

type Minute = Activity["data"][number];

interface Chart {
  readonly title: string;
  /** The bars from the bottom up; each is drawn in its colour. */
  readonly series: readonly { readonly kind: "good" | "bad"; readonly of: (m: Minute) => number }[];
  readonly text: (value: number) => string;
  /** The figure of the whole hour. */
  readonly total: (minutes: readonly Minute[]) => string;
}

const sum = (minutes: readonly Minute[], of: (m: Minute) => number) =>
  minutes.reduce((total, minute) => total + of(minute), 0);
const jobsOf = (m: Minute) => m.succeeded + m.failed + m.cancelled + m.expired;
const share = (part: number, all: number) => (all === 0 ? 0 : part / all);

const CHARTS: readonly Chart[] = [
  {
    title: "Jobs that ended",
    series: [
      { kind: "good", of: (m) => m.succeeded },
      { kind: "bad", of: (m) => jobsOf(m) - m.succeeded },
    ],
    text: integer,
    total: (minutes) => {
      const succeeded = sum(minutes, (m) => m.succeeded);
      const others = (["failed", "cancelled", "expired"] as const).map(
        (state) => `${integer(sum(minutes, (m) => m[state]))} ${state}`,
      );
      return [`${integer(succeeded)} succeeded`, ...others].join(", ");
    },
  },
  {
    title: "Generated tokens",
    series: [{ kind: "good", of: (m) => m.completion_tokens }],
    text: integer,
    total: (minutes) => {
      const tokens = sum(minutes, (m) => m.completion_tokens);
      return `${integer(tokens)}, ${decimal(tokens / 3_600)} a second`;
    },
  },
  {
    title: "Mean wait before the start",
    series: [{ kind: "good", of: (m) => share(m.wait_seconds, m.started) }],
    text: duration,
    total: (minutes) =>
      duration(
        share(
          sum(minutes, (m) => m.wait_seconds),
          sum(minutes, (m) => m.started),
        ),
      ),
  },
  {
    title: "Mean time of a job at its worker",
    series: [{ kind: "good", of: (m) => share(m.seconds, m.started) }],
    text: duration,
    total: (minutes) =>
      duration(
        share(
          sum(minutes, (m) => m.seconds),
          sum(minutes, (m) => m.started),
        ),
      ),
  },
];

export const activityPart: Part = {
  id: "activity",
  isShownTo: (viewer) => viewer.may("operator") || viewer.may("admin"),
  load: async (viewer) => {
    const path = viewer.may("operator") ? "/v1/operator/activity" : "/v1/activity";
    const { data } = await viewer.get<Activity>(path);
    const charts = CHARTS.map((chart) => figure(chart, data));
    return [element("div", { class: "charts" }, ...charts)];
  },
};

function figure(chart: Chart, minutes: readonly Minute[]): HTMLElement {
  const total = chart.total(minutes);
  const of = (minute: Minute) => sumOf(chart.series.map((series) => series.of(minute)));
  const most = Math.max(...minutes.map(of));
  const label = `${chart.title} in the last hour: ${total}; most in a minute: ${chart.text(most)}`;
  return element(
    "figure",
    {},
    element("figcaption", {}, element("strong", {}, chart.title), ` ${total}`),
    bars(chart, minutes, most, label),
    element("p", { class: "hint" }, `an hour ago – now; highest bar ${chart.text(most)}`),
  );
}

const sumOf = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 40;

function bars(
  { series, text }: Chart,
  minutes: readonly Minute[],
  most: number,
  label: string,
): SVGElement {
  const chart = svg("svg", {
    viewBox: `0 0 ${minutes.length} ${HEIGHT}`,
    preserveAspectRatio: "none",
    role: "img",
    "aria-label": label,
  });
  for (const [i, minute] of minutes.entries()) {
    let below = 0;
    for (const { kind, of } of series) {
      const height = share(of(minute), most) * HEIGHT;
      const y = HEIGHT - below - height;
      const bar = svg("rect", { x: i + 0.1, y, width: 0.8, height, class: kind });
      const title = svg("title", {});
      title.textContent = `${new Date(minute.at * 1000).toLocaleTimeString()}: ${text(of(minute))}`;
      bar.append(title);
      if (height > 0) chart.append(bar);
      below += height;
    }
  }
  return chart;
}

function svg(name: string, attributes: Readonly<Record<string, string | number>>): SVGElement {
  const made = document.createElementNS(SVG, name);
  for (const [attribute, value] of Object.entries(attributes)) {
    made.setAttribute(attribute, String(value));
  }
  return made;
}
