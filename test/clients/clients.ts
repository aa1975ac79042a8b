/**
 * `npm run clients`: agent frameworks call functions, unchanged and in pinned versions, against a stack whose model calls a
 * function and then answers (test/support/scripted-model.ts). It needs Python 3.10 or newer.
 * Options: names of clients to run only these; `--json FILE` writes the results.
 */
import { copyFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { parseArgs } from "node:util";
import { Child } from "../../infra/stack/process.ts";
import { runCommand, startApi } from "../support/command.ts";
import { installNodeTools } from "../support/node-tools.ts";
import { installPythonTools } from "../../infra/stack/python-tools.ts";
import { SCRIPTED_MODEL, writeScriptedModel } from "../support/scripted-model.ts";

/** A program that lets a framework call `get_weather`, and exits with another code than 0 if something is not as it should be. */
interface ClientProgram {
  readonly file: string;
  /** As pip or npm take them; the first is the framework. */
  readonly packages: readonly [string, ...string[]];
}

const CLIENTS: Readonly<Record<string, ClientProgram>> = {
  "openai-1": { file: "python/openai_messages.py", packages: ["openai==1.109.1"] },
  "openai-2": { file: "python/openai_messages.py", packages: ["openai==2.37.0"] },
  "openai-3": { file: "python/openai_messages.py", packages: ["openai==3.57.0"] },
  anthropic: { file: "python/anthropic_messages.py", packages: ["anthropic==2.14.0"] },
  langgraph: {
    file: "python/langgraph_agent.py",
    packages: ["langgraph==1.2.24", "langchain-openai==1.7.4"],
  },
  "pydantic-ai": {
    file: "python/pydantic_ai_agent.py",
    packages: ["pydantic-ai-slim[openai]==2.68.0"],
  },
  instructor: { file: "python/instructor_tools.py", packages: ["instructor==1.17.0"] },
  "llama-index": {
    file: "python/llama_index_agent.py",
    packages: ["llama-index-core==0.14.25", "llama-index-llms-openai-like==0.8.1"],
  },
  "openai-agents": { file: "python/openai_agents.py", packages: ["openai-agents==0.24.0"] },
  "openai-agents-js": {
    file: "node/openai_agents.mjs",
    packages: ["@openai/agents@0.20.0", "zod@4.6.7"],
  },
  "ai-sdk": {
    file: "node/ai_sdk.mjs",
    packages: [
      "ai@7.0.173",
      "@ai-sdk/openai@4.0.118",
      "@ai-sdk/openai-compatible@3.0.92",
      "zod@4.6.7",
    ],
  },
};

const { values, positionals } = parseArgs({
  options: { json: { type: "string" } },
  allowPositionals: true,
});

await runCommand(runClients);

/** @returns 1 if a client failed */
async function runClients(folder: string): Promise<number> {
  const model = writeScriptedModel(folder, {
    calls: {
      get_weather: { city: "Oslo" },
      Weather: { city: "Oslo", degrees: 17 },
      final_result: { city: "Oslo", degrees: 17 },
    },
    last: ["final_result"],
    answer: "It is sunny in Oslo.",
  });
  const { url, key } = await startApi(model, "clients");
  const names = positionals.length > 0 ? positionals : Object.keys(CLIENTS);
  const results: { name: string; version: string; passed: boolean }[] = [];
  for (const name of names) {
    const client = CLIENTS[name];
    if (!client) throw new Error(`Unknown client ${name}: ${Object.keys(CLIENTS).join(", ")}`);
    const env = { BASE_URL: `${url}/v1`, API_KEY: key, MODEL: SCRIPTED_MODEL };
    const passed = await runClient(name, client, env);
    const [version] = client.packages;
    results.push({ name, version, passed });
    console.log(`${passed ? "ok    " : "FAILED"}  ${version}`);
  }
  if (values.json) writeFileSync(values.json, JSON.stringify(results, null, 2));
  return results.every(({ passed }) => passed) ? 0 : 1;
}

async function runClient(
  name: string,
  { file, packages }: ClientProgram,
  env: Readonly<Record<string, string>>,
): Promise<boolean> {
  const source = join(import.meta.dirname, file);
  const set = `clients-${name}-${packages[0].replaceAll(/[^\w.]+/g, "-")}`;
  const isPython = file.endsWith(".py");
  const place = isPython ? installPythonTools(set, packages) : installNodeTools(set, packages);
  // A program of Node finds packages beside itself only.
  const program = isPython ? source : join(place, basename(file));
  if (!isPython) copyFileSync(source, program);
  const command = isPython ? join(place, "python") : process.execPath;
  const child = new Child({ name, command, args: [program], env, inherit: true });
  return (await child.exited).code === 0;
}
