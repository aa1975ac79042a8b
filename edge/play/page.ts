/**
 * The playground as a page. Its script (edge/play/client, bundled by infra/pages/bundle.ts) fills it and sets texts of models,
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
      A small model was tuned for a task; the large one was not. At every token, the large model
      gets added what the tuning changed in the small one, <strong>alpha</strong> times. Move
      <strong>alpha</strong> and watch the answer change: at 0 it is the large model's own, at 1
      much like that of a tuned large model, above 1 the change is exaggerated.
    </p>
    <ul class="formula" aria-label="The formula, with its terms">
      ${term("", "steered", "the model that you get")}
      ${term("=", "base", "large, not tuned for the task")}
      ${term("+", "alpha", "how strongly: the slider")}
      ${term("× (", "expert", "small, tuned for the task")}
      ${term("−", "antiexpert", "the same small model before its tuning", ")")}
    </ul>
  </header>`;
}

function term(operator: string, name: string, text: string, after = "") {
  return html`<li>
    <span class="operator">${operator}</span>
    <span><strong class="${name}">${name}</strong> <span class="operator">${after}</span></span>
    <small>${text}</small>
  </li>`;
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
        <textarea id="prompt" rows="2" required></textarea>
        <div id="examples" class="row" role="group" aria-label="Examples of prompts"></div>
      </div>
      <div class="field">
        <label for="model">Model</label>
        <select id="model"></select>
        <p id="model-text" class="hint"></p>
      </div>
    </div>
    <div class="more">
      <details id="steering">
        <summary>More steering: schedule, several experts, guards</summary>
        ${scheduleEditor()} ${pairsEditor()}
        <fieldset>
          <legend>Guards</legend>
          <div class="grid">
            ${numberField("kl-budget", "kl_budget", "lowers alpha where the shift is larger than this, in nats")}
            ${numberField("base-nucleus", "base_nucleus", "allows only tokens of the base's nucleus of this probability")}
            ${numberField("fallback", "fallback", "uses the base alone where expert and antiexpert differ less than this, 0 to 1")}
          </div>
        </fieldset>
      </details>
      <details id="sampling">
        <summary>Sampling, length, stop strings, format</summary>
        <div class="grid">
          ${numberField("temperature", "temperature", "0 always takes the likeliest token")}
          ${numberField("top-p", "top_p", "keeps the likeliest tokens of this probability")}
          ${numberField("max-tokens", "max_tokens", "the longest answer")}
          ${numberField("seed", "seed", "both answers draw from one seed")} ${outputFields()}
        </div>
      </details>
    </div>
    <div class="alpha-control">
      <label for="alpha">alpha <output id="alpha-value" for="alpha"></output></label>
      <span id="alpha-text" class="meaning"></span>
      <input id="alpha" type="range" step="0.05" aria-describedby="alpha-text alpha-range" />
      <div id="alpha-marks" class="marks" aria-hidden="true"></div>
      <p id="alpha-range" class="hint"></p>
    </div>
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

function scheduleEditor() {
  return html`<fieldset>
    <legend>Schedule</legend>
    <p class="hint">
      Alpha that changes over the answer: linear between the knots, constant outside.
    </p>
    <div id="schedule-actions" class="row"></div>
    <div id="schedule-plot" class="plot" role="img" hidden>
      <span id="schedule-top"></span>
      <div id="schedule-curve"></div>
      <span id="schedule-bottom"></span> <span id="schedule-end"></span>
    </div>
    <ul id="schedule-knots" class="rows"></ul>
  </fieldset>`;
}

function pairsEditor() {
  return html`<fieldset>
    <legend>Experts</legend>
    <p id="pairs-text" class="hint"></p>
    <ul id="pairs-rows" class="rows"></ul>
    <div id="pairs-actions" class="row"></div>
  </fieldset>`;
}

function outputFields() {
  return html`<div class="field">
      <label for="stop-strings">stop</label>
      <textarea id="stop-strings" rows="2" aria-describedby="stop-hint"></textarea>
      <p id="stop-hint" class="hint">strings that end the answer, one a line; \\n is a line end</p>
    </div>
    <div class="field">
      <label for="format">response_format</label>
      <select id="format">
        <option value="text">any text</option>
        <option value="json_object">JSON object</option>
        <option value="json_schema">JSON by a schema</option>
        <option value="regex">regular expression</option>
        <option value="grammar">grammar (GBNF)</option>
      </select>
      <div id="format-text-field" hidden>
        <label for="format-text">Schema, expression or grammar</label>
        <textarea id="format-text" rows="3" spellcheck="false"></textarea>
      </div>
    </div>`;
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
    <p class="state">
      <span id="${id}-state"></span>
      <button
        id="${id}-job"
        type="button"
        class="chip"
        title="Shows the job's record"
        hidden
      ></button>
    </p>
    <p class="unseen" id="${id}-text"></p>
    <div class="answer" id="${id}-tokens"></div>
    <figure id="${id}-shift" hidden>
      <div class="strip" id="${id}-strip" role="img" aria-label="No tokens yet"></div>
      <figcaption class="hint">
        How far steering moves the choice of each token (KL, a full bar is 3 nats)
      </figcaption>
      <div
        class="strip alphas"
        id="${id}-alphas"
        role="img"
        aria-label="No tokens yet"
        hidden
      ></div>
      <figcaption class="hint" id="${id}-alphas-text" hidden>
        alpha at each token, after the schedule and the guards
      </figcaption>
    </figure>
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
    <section id="record" class="card" aria-labelledby="record-title" hidden>
      <h2 id="record-title">The job</h2>
      <p class="hint">Its record, as GET /v1/jobs/{id} gives it.</p>
      <div id="record-actions" class="row"></div>
      <div id="record-body"></div>
    </section>
    <section class="card">
      <details id="code">
        <summary>This request as code</summary>
        <div id="code-body"></div>
      </details>
    </section>`;
}
