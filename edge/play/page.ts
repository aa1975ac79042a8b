/**
 * The playground as a page. Its script (edge/play/client, bundled by infra/pages/playground.ts) fills it and sets texts of models,
 * prompts and errors as text only; Trusted Types make the browser refuse everything else.
 */
import { html } from "hono/html";

export const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "connect-src 'self'",
  "img-src data:",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join("; ");

export function playgroundPage() {
  return html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <title>trimtab playground</title>
        <link rel="icon" href="data:," />
        <link rel="stylesheet" href="/play/style.css" />
        <script src="/play/script.js" defer></script>
      </head>
      <body>
        ${header()}
        <main>
          ${settingsForm()} ${answers()} ${tools()}
          <noscript
            ><p>This page needs JavaScript. <a href="/docs">API reference</a></p></noscript
          >
        </main>
        <div id="figure" role="dialog" aria-label="How this token was chosen" hidden></div>
      </body>
    </html>`;
}

function header() {
  return html`<header>
    <div class="title">
      <h1>trimtab playground</h1>
      <a href="/docs">API reference</a>
    </div>
    <p class="lead">
      A large model, the <strong class="base">base</strong>, was never tuned. A small model was:
      tuned it is the <strong class="expert">expert</strong>, before its tuning the
      <strong class="antiexpert">antiexpert</strong>. At every token their difference, which is what
      the tuning changed, is added to the base, <strong>alpha</strong> times: at 0 the base answers
      alone, at 1 with the whole change, above 1 with more than that.
    </p>
    <p class="formula">
      <strong class="steered">steered</strong> = <strong class="base">base</strong> +
      <strong>alpha</strong> × (<strong class="expert">expert</strong> −
      <strong class="antiexpert">antiexpert</strong>)
    </p>
  </header>`;
}

function settingsForm() {
  return html`<form id="settings" class="card" aria-label="Settings" autocomplete="off" novalidate>
    <div id="access" hidden>
      <label for="key">API key</label>
      <div class="row">
        <input id="key" type="password" placeholder="tt_…" autocomplete="off" spellcheck="false" />
        <button id="use-key" type="button">Use this key</button>
      </div>
      <p class="hint">It stays in this tab: it is in no link and is forgotten with the tab.</p>
    </div>
    <p id="notice" class="notice" role="alert" hidden></p>
    <div class="inputs">
      <div class="field prompt">
        <label for="prompt">Prompt</label>
        <textarea id="prompt" rows="3" required></textarea>
        <div id="examples" class="row" role="group" aria-label="Examples of prompts"></div>
      </div>
      <div class="field">
        <label for="model">Model</label>
        <select id="model"></select>
        <p id="model-text" class="hint"></p>
        <label for="alpha">alpha <output id="alpha-value" for="alpha"></output></label>
        <input id="alpha" type="range" step="0.05" aria-describedby="alpha-text" />
        <div id="alpha-marks" class="marks" aria-hidden="true"></div>
        <p id="alpha-text" class="hint"></p>
      </div>
    </div>
    <details>
      <summary>Sampling, length and guards</summary>
      <div class="grid">
        ${numberField("temperature", "temperature", "0 always takes the likeliest token")}
        ${numberField("top-p", "top_p", "keeps the likeliest tokens of this probability")}
        ${numberField("max-tokens", "max_tokens", "the longest answer")}
        ${numberField("seed", "seed", "both answers draw from one seed")}
        ${numberField("kl-budget", "kl_budget", "guard: lowers alpha where the shift is larger, in nats")}
        ${numberField("base-nucleus", "base_nucleus", "guard: only tokens of the base's nucleus")}
      </div>
    </details>
    <div class="row actions">
      <button id="run" type="submit" class="primary">Run both</button>
      <button id="stop" type="button" disabled>Stop</button>
      <button id="sweep" type="button">Sweep alpha</button>
      <button id="blind" type="button">Compare blind</button>
      <button id="link" type="button">Copy link</button>
      <span id="announcement" class="hint" role="status"></span>
    </div>
  </form>`;
}

/** A number input. The script sets its bounds, which come from the API's limits. */
function numberField(id: string, name: string, hint: string) {
  return html`<div class="field">
    <label for="${id}">${name}</label>
    <input id="${id}" type="number" step="any" aria-describedby="${id}-hint" />
    <p id="${id}-hint" class="hint">${hint}</p>
  </div>`;
}

function answers() {
  return html`<section id="answers" class="columns" aria-label="Answers">
      ${column("base", "Base alone", "alpha 0")} ${column("steered", "Steered", "")}
    </section>
    <div id="legend" class="legend" hidden>
      <span><i class="token lose-3">word</i> less likely</span>
      <span><i class="token">word</i> as likely</span>
      <span><i class="token gain-3">word</i> more likely than the base alone finds it</span>
      <span><i class="token other">word</i> the base would have said another one</span>
      <span class="hint">Point at a token, or move with the arrow keys, to see why it came.</span>
    </div>`;
}

function column(id: string, title: string, subtitle: string) {
  return html`<article id="${id}" class="card" aria-labelledby="${id}-title">
    <h2 id="${id}-title" class="${id}">
      ${title} <span class="hint" id="${id}-alpha">${subtitle}</span>
    </h2>
    <p class="state" id="${id}-state"></p>
    <p class="unseen" id="${id}-text"></p>
    <div class="answer" id="${id}-tokens"></div>
    <div
      class="strip"
      id="${id}-strip"
      role="img"
      aria-label="No tokens yet"
      ${id === "base" ? "hidden" : ""}
    ></div>
    <p class="summary" id="${id}-summary"></p>
  </article>`;
}

function tools() {
  return html`<section id="sweep-results" class="card" aria-labelledby="sweep-title" hidden>
      <h2 id="sweep-title">The same prompt and seed, from weak to strong steering</h2>
      <div class="scroll" tabindex="0" role="region" aria-label="Answers by alpha">
        <table id="sweep-table"></table>
      </div>
    </section>
    <section id="blind-results" class="card" aria-labelledby="blind-title" hidden>
      <h2 id="blind-title">Which answer is better?</h2>
      <div id="blind-body"></div>
    </section>
    <section class="card">
      <details id="code">
        <summary>This request as code</summary>
        <div id="code-body"></div>
      </details>
    </section>`;
}
