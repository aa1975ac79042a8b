/** Strict tools accept the OpenAPI document: Redocly lints it, and openapi-typescript makes types that compile. */
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, onTestFinished, test } from "vitest";

const ROOT = join(import.meta.dirname, "../../..");
const DOCUMENT = join(ROOT, "edge/docs/openapi.json");
const TOOLS = join(import.meta.dirname, "tools");

/** Runs a Node program without its telemetry and update checks. @returns its output, standard error included */
async function run(program: string, ...args: string[]): Promise<string> {
  const env = {
    ...process.env,
    REDOCLY_TELEMETRY: "off",
    REDOCLY_SUPPRESS_UPDATE_NOTICE: "true",
  };
  const ran = promisify(execFile)(process.execPath, [program, ...args], { env, cwd: ROOT });
  const { stdout, stderr } = await ran.catch((error: { stdout: string; stderr: string }) => {
    throw new Error(`${program} failed\n${error.stdout}\n${error.stderr}`);
  });
  return stdout + stderr;
}

test("Redocly finds no error and no warning", async () => {
  const redocly = join(ROOT, "node_modules/@redocly/cli/bin/cli.js");
  const config = join(TOOLS, "redocly.yaml");
  expect(await run(redocly, "lint", "--config", config, DOCUMENT)).toContain(
    "Your API description is valid.",
  );
});

/** Code of a client. The lines that expect an error prove that the types are not `any`. */
const CLIENT = `
import type { components, paths } from "./api.d.ts";

type Operation = paths["/v1/jobs"]["post"];
type Job = Operation["responses"][202]["content"]["application/json"];
type Body = Operation["requestBody"]["content"]["application/json"];

export async function createJob(origin: string, key: string): Promise<Job["state"]> {
  const body: Body = { model: "atlas-qa", prompt: "Hello", steering: { alpha: 0.5 } };
  const headers: NonNullable<Operation["parameters"]["header"]> & HeadersInit = {
    Authorization: \`Bearer \${key}\`,
    Prefer: "wait=5",
  };
  const reply = await fetch(new URL("/v1/jobs", origin), {
    method: "POST",
    headers,
    body: JSON.stringify(body),
  });
  if (!reply.ok) throw new Error(((await reply.json()) as components["schemas"]["ProblemBody"]).detail);
  const job = (await reply.json()) as Job;
  // @ts-expect-error: a job has no such member
  job.nothing;
  // @ts-expect-error: alpha is a number
  const wrong: Body = { model: "atlas-qa", prompt: "Hello", steering: { alpha: "high" } };
  return wrong ? job.state : "queued";
}

export function text(event: components["schemas"]["JobEvent"]): string {
  return event.type === "tokens" ? event.text : "";
}
`;

test("types that openapi-typescript makes compile, and type a call of the API", async () => {
  const folder = await mkdtemp(join(tmpdir(), "trimtab-openapi-"));
  onTestFinished(() => rm(folder, { recursive: true }));
  const generator = join(TOOLS, "node_modules/openapi-typescript/bin/cli.js");
  // Fields with a default are optional in requests.
  const flags = ["--default-non-nullable=false", "--output", join(folder, "api.d.ts")];
  await run(generator, DOCUMENT, ...flags);
  await writeFile(join(folder, "client.ts"), CLIENT);
  const options = ["--ignoreConfig", "--noEmit", "--strict", "--types", "", "--lib", "ES2024,DOM"];
  const modules = ["--module", "NodeNext", "--allowImportingTsExtensions"];
  const compiler = join(ROOT, "node_modules/typescript/bin/tsc");
  const output = await run(compiler, ...options, ...modules, join(folder, "client.ts"));
  expect(output).toBe("");
});
