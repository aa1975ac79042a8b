/** The steered request as code to paste. The key is never in it: the code reads the environment variable TRIMTAB_API_KEY. */
import { generationOf, messagesOf, type Settings } from "./settings.ts";

export type Language = "curl" | "Python" | "TypeScript" | "JSON";

/** @param url where the API is, without a path */
export function codeOf(settings: Settings, url: string): Readonly<Record<Language, string>> {
  const { steering, ...generation } = generationOf(settings);
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
        ([name, value]) => `    ${name}=${pythonLiteral(value)},`,
      ),
      `    extra_body={"steering": ${pythonLiteral(steering)}},`,
      ")",
      "print(reply.choices[0].message.content)",
    ].join("\n"),
    TypeScript: [
      'import OpenAI from "openai";',
      "",
      `const client = new OpenAI({ baseURL: ${JSON.stringify(`${url}/v1`)}, apiKey: process.env.TRIMTAB_API_KEY });`,
      `const request: unknown = ${json};`,
      "const reply = await client.chat.completions.create(request as OpenAI.ChatCompletionCreateParamsNonStreaming);",
      "console.log(reply.choices[0].message.content);",
    ].join("\n"),
    JSON: json,
  };
}

/** JSON's texts and numbers are also Python's. */
function pythonLiteral(value: unknown): string {
  if (value === null || value === undefined) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(pythonLiteral).join(", ")}]`;
  if (typeof value !== "object") return JSON.stringify(value);
  const members = Object.entries(value).map(
    ([name, member]) => `${JSON.stringify(name)}: ${pythonLiteral(member)}`,
  );
  return `{${members.join(", ")}}`;
}

const shellQuote = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;
