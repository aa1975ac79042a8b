/** The steered request as code to paste. The key is never in it: the code reads the environment variable TRIMTAB_API_KEY. */
import { generationOf, messagesOf, type Settings } from "./settings.ts";

export type Language = "curl" | "Python" | "TypeScript" | "JSON";

/** @param url where the API is, without a path */
export function codeOf(settings: Settings, url: string): Readonly<Record<Language, string>> {
  const { steering, ...generation } = generationOf(settings, settings.alpha);
  const request = { ...generation, messages: messagesOf(settings), steering };
  const json = JSON.stringify(request, null, 2);
  return {
    curl: [
      `curl -N ${url}/v1/chat/completions \\`,
      `  -H "authorization: Bearer $TRIMTAB_API_KEY" -H "content-type: application/json" \\`,
      `  -d ${shellQuote(JSON.stringify({ ...request, stream: true }, null, 2))}`,
    ].join("\n"),
    Python: [
      "import os",
      "from openai import OpenAI",
      "",
      `client = OpenAI(base_url=${JSON.stringify(`${url}/v1`)}, api_key=os.environ["TRIMTAB_API_KEY"])`,
      "reply = client.chat.completions.create(",
      ...Object.entries({ ...generation, messages: request.messages }).map(
        ([name, value]) => `    ${name}=${JSON.stringify(value)},`,
      ),
      `    extra_body={"steering": ${JSON.stringify(steering)}},`,
      ")",
      "print(reply.choices[0].message.content)",
    ].join("\n"),
    TypeScript: [
      'import OpenAI from "openai";',
      "",
      `const client = new OpenAI({ baseURL: ${JSON.stringify(`${url}/v1`)}, apiKey: process.env.TRIMTAB_API_KEY });`,
      `const request = ${json};`,
      "const reply = await client.chat.completions.create(request as OpenAI.ChatCompletionCreateParamsNonStreaming);",
      "console.log(reply.choices[0].message.content);",
    ].join("\n"),
    JSON: json,
  };
}

const shellQuote = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;
