/** The text at the beginning of the API document. */

/** Markdown. */
export const INTRODUCTION = `
At every token the logits of a large base model are shifted by the difference between a small tuned model and its untuned version: logits = base + alpha * (expert - antiexpert).

**Authentication.** Send an API key with every request, as \`Authorization: Bearer tt_…\`. Each operation names the scope that the key needs.

**The first request.** Replace the address of the server and the API key by yours:

\`\`\`sh
curl https://trimtab.example.com/v1/jobs \\
  --header 'Authorization: Bearer tt_…' \\
  --header 'Prefer: wait=30' \\
  --data '{
    "model": "atlas-qa",
    "prompt": "The capital of France is"
  }'
\`\`\`

**Jobs and streams.** Every generation is a job: it waits in a queue, a worker runs it, and its output can be read until the job is deleted. \`GET /v1/jobs/{id}/events\` streams the output while it is generated, and a reader that lost its connection continues after its last event.

**For programs.** This API as an OpenAPI 3.1 document: [/openapi.json](/openapi.json).
`.trim();
