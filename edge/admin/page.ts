/**
 * The operator's page. Its script (edge/admin/client, bundled by infra/pages) fills the parts that the viewer's API key may see, and sets
 * texts as text only. It has the playground's policy and style sheet.
 */
import { html } from "hono/html";

export function adminPage() {
  return html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <title>trimtab operation</title>
        <link rel="icon" href="data:," />
        <link rel="stylesheet" href="/play/style.css" />
        <link rel="stylesheet" href="/admin/style.css" />
        <script src="/admin/script.js" defer></script>
      </head>
      <body>
        <header>
          <div class="title">
            <h1>trimtab operation</h1>
            <nav class="row" aria-label="Other pages">
              <a href="/play">Playground</a> <a href="/docs">API reference</a>
            </nav>
          </div>
          <p id="viewer" class="hint"></p>
        </header>
        <main>
          ${access()}
          <div class="row">
            <button id="refresh" type="button" hidden>Pause updates</button>
            <span id="updated" class="hint"></span>
            <span id="announcement" role="status"></span>
          </div>
          ${PARTS.map(part)}
          <noscript
            ><p>This page needs JavaScript. <a href="/docs">API reference</a></p></noscript
          >
        </main>
      </body>
    </html>`;
}

function access() {
  return html`<form id="access" class="card" aria-label="Access" autocomplete="off" hidden>
    <label for="key">API key</label>
    <div class="row">
      <input id="key" type="password" placeholder="tt_…" autocomplete="off" spellcheck="false" />
      <button type="submit">Use this key</button>
    </div>
    <p class="hint">
      A key with the scope <code>operator</code> sees all tenants, one with <code>admin</code> its
      own. It stays in this tab and is forgotten with it.
    </p>
    <p id="notice" class="notice" role="alert"></p>
  </form>`;
}

/** The parts of the page: the script shows those that the viewer's key may read. */
const PARTS = [
  ["activity", "The last hour"],
  ["queues", "Queues"],
  ["jobs", "Running jobs"],
  ["workers", "Workers"],
  ["models", "Models"],
  ["failures", "Failures"],
  ["endpoints", "Webhook endpoints"],
  ["deliveries", "Webhook deliveries"],
  ["keys", "API keys, and their use today"],
  ["tenants", "Tenants, and their use today"],
] as const;

function part([id, title]: (typeof PARTS)[number]) {
  return html`<section id="${id}" class="card" aria-labelledby="${id}-title" hidden>
    <h2 id="${id}-title" tabindex="-1">${title}</h2>
    <div id="${id}-body"></div>
  </section>`;
}
