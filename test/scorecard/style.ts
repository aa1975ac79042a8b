/** The style of the scorecard's page. */
export const STYLE = `
:root { color-scheme: light dark; --ink: #1c2024; --muted: #5d6670; --paper: #fff; --card: #f5f6f8; --line: #dfe3e8;
  --good: #0f7a4d; --bad: #b3261e; --open: #8a5a00; --base: #98a2ae; --expert: #6f8fbf; --proxy: #0b62d6; --tuned: #5b4aa8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --muted: #9aa4af; --paper: #14171a; --card: #1e2226; --line: #333a41;
  --good: #4cc38a; --bad: #ff8a80; --open: #f0b848; --base: #6b7580; --expert: #7fa2d6; --proxy: #5b9dff; --tuned: #a595f0; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 860px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 8px; }
h2 { font-size: 1.15rem; margin: 0; }
p { margin: 0; }
.muted { color: var(--muted); }
.small { font-size: .85rem; }
.verdict { margin-top: 8px; padding: 20px 24px; border-radius: 10px; background: var(--card); border-left: 6px solid var(--open); }
.verdict ul { margin: 0; padding-left: 20px; }
.verdict.good { border-color: var(--good); } .verdict.good h1 { color: var(--good); }
.verdict.bad { border-color: var(--bad); } .verdict.bad h1 { color: var(--bad); }
.verdict.open h1 { color: var(--open); }
section { margin-top: 40px; }
section > .muted { margin-bottom: 12px; }
svg { display: block; width: 100%; height: auto; font-size: 14px; }
svg text { fill: var(--ink); }
svg .tick, svg .muted { fill: var(--muted); font-size: 12px; }
svg .value { font-weight: 600; }
svg .grid { stroke: var(--line); }
svg rect.base { fill: var(--base); } svg rect.expert { fill: var(--expert); }
svg rect.proxy { fill: var(--proxy); } svg rect.tuned { fill: var(--tuned); }
svg .whisker { stroke: var(--ink); stroke-width: 1.5; fill: none; }
svg .band { fill: var(--proxy); opacity: .16; }
svg .line { fill: none; stroke-width: 2; }
svg .line.right { stroke: var(--proxy); }
svg .line.changed { stroke: var(--muted); stroke-dasharray: 5 4; }
svg .dot { fill: var(--proxy); } svg .dot.chosen { stroke: var(--paper); stroke-width: 2; }
table { width: 100%; border-collapse: collapse; margin-top: 12px; }
th { text-align: left; font-weight: 500; color: var(--muted); }
td, th { padding: 6px 8px; border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 12px; }
.cards > div { background: var(--card); border-radius: 8px; padding: 12px 16px; }
.figure { font-size: 1.35rem; font-weight: 600; font-variant-numeric: tabular-nums; }
article { padding: 14px 0; border-top: 1px solid var(--line); }
.prompt { font-weight: 600; white-space: pre-wrap; overflow-wrap: anywhere; }
.prompt .muted { font-weight: 400; }
.sides { display: grid; grid-template-columns: repeat(auto-fit, minmax(180px, 1fr)); gap: 12px; margin-top: 8px; }
.sides > div { border-left: 3px solid var(--line); padding-left: 10px; }
.sides .yes { border-color: var(--good); } .sides .no { border-color: var(--bad); }
.text { font: .88rem/1.45 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere; max-height: 8.7em; overflow: auto; }
`;
