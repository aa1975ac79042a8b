/**
 * The API reference as a page. Scalar renders the OpenAPI document in the browser; the script (infra/pages/reference.ts)
 * is served by the edge, so the page needs no inline script and loads nothing from another host.
 */
import { html } from "hono/html";

/** `unsafe-inline` for styles only: Scalar adds its style sheet from its script. */
export const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'unsafe-inline'",
  "connect-src 'self'",
  "img-src 'self' data:",
  "font-src data:",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

export function referencePage() {
  return html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <title>trimtab API</title>
        <link rel="icon" href="data:," />
      </head>
      <body>
        <div id="reference"></div>
        <noscript>
          This page needs JavaScript. The same as a file:
          <a href="/openapi.json">OpenAPI 3.1</a>.
        </noscript>
        <script src="/docs/reference.js"></script>
      </body>
    </html>`;
}
