/**
 * `npm run test:open-responses`: the cases of Open Responses' compliance suite against a stack with a model that calls a function
 * and then answers (test/support/scripted-model.ts), or against another server. Options: `--url`, `--key` and `--model` of that
 * server, `--json FILE` to write the results.
 */
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { runCommand, startApi } from "../support/command.ts";
import { SCRIPTED_MODEL, writeScriptedModel } from "../support/scripted-model.ts";
import { CASES, REFUSALS } from "./cases.ts";
import { problemsOf, refusalProblems, type Server } from "./check.ts";

const { values } = parseArgs({
  options: {
    url: { type: "string" },
    key: { type: "string" },
    model: { type: "string" },
    json: { type: "string" },
  },
});

await runCommand(async (folder) =>
  run(values.url === undefined ? await startStack(folder) : otherServer()),
);

function otherServer(): Server {
  const { url = "", key = "", model = "" } = values;
  return { baseUrl: url, key, model };
}

async function startStack(folder: string): Promise<Server> {
  const manifest = writeScriptedModel(folder, {
    calls: { get_weather: { city: "Oslo" } },
    answer: "Hello to you.",
  });
  const { url, key } = await startApi(manifest, "open-responses");
  return { baseUrl: `${url}/v1`, key, model: SCRIPTED_MODEL };
}

/** @returns 1 if a case failed */
async function run(server: Server): Promise<number> {
  const results: { readonly id: string; readonly problems: readonly string[] }[] = [];
  const record = (id: string, problems: readonly string[]) => {
    results.push({ id, problems });
    console.log(`${problems.length === 0 ? "ok    " : "FAILED"}  ${id}`);
    for (const problem of problems) console.log(`        ${problem}`);
  };
  for (const one of CASES) record(one.id, await problemsOf(server, one));
  for (const one of REFUSALS) record(`${one.id} is refused`, await refusalProblems(server, one));
  if (values.json) writeFileSync(values.json, JSON.stringify(results, null, 2));
  return results.every(({ problems }) => problems.length === 0) ? 0 : 1;
}
