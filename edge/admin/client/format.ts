/** Figures as people read them. */

/** A time that has passed, or is to come: `40 ms`, `1.5 s`, `12 s`, `3 min`, `5 h`, `2 d`. */
export function duration(seconds: number): string {
  const s = Math.max(0, seconds);
  if (s < 1) return `${Math.round(s * 1_000)} ms`;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 120) return `${Math.round(s)} s`;
  if (s < 7_200) return `${Math.round(s / 60)} min`;
  if (s < 172_800) return `${Math.round(s / 3_600)} h`;
  return `${Math.round(s / 86_400)} d`;
}

/** How long ago a Unix time in seconds was. */
export const since = (at: number | null) => (at === null ? "–" : duration(Date.now() / 1000 - at));

export function bytes(count: number): string {
  if (count < 1_024) return `${count} B`;
  const mib = count / 2 ** 20;
  return mib < 1_024 ? `${mib.toFixed(mib < 10 ? 1 : 0)} MiB` : `${(mib / 1_024).toFixed(1)} GiB`;
}

export const percent = (share: number | null) =>
  share === null ? "–" : `${(100 * share).toFixed(0)}%`;

export const integer = (count: number) => Math.round(count).toLocaleString("en");

export const decimal = (value: number | null) => (value === null ? "–" : value.toFixed(1));
