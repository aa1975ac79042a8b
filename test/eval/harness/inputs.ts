/** The inputs of the harness, in a temporary folder: tasks with their questions, and the manifest of the models. */
import { cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const DATA = join(import.meta.dirname, "../data/atlas-qa.test.jsonl");
const TASKS = join(import.meta.dirname, "tasks");
const MODELS = join(import.meta.dirname, "../../../infra/models");
export const BASE_FOLDER = join(MODELS, "base");
/** Characters of the longest text, which has more tokens than the context. */
const LONG_CHARS = 6_000;

/** The tasks that are run; each is a file in `tasks/`. */
export const TASK_NAMES = readdirSync(TASKS).map((file) => file.replace(".yaml", ""));

interface Question {
  readonly prompt: string;
  readonly answer: string;
  readonly attribute: string;
}

/** @returns the folder of the tasks */
export function writeInputs(folder: string, count: number): string {
  const all = readFileSync(DATA, "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Question);
  const capitals = all.filter(({ attribute }) => attribute.startsWith("capital")).slice(0, count);
  const answers = capitals.map(({ prompt, answer }) => ({ question: prompt, answer }));
  const choices = answers.map(({ question, answer }, i) => {
    const others = [...answers.slice(i + 1), ...answers.slice(0, i)].map((other) => other.answer);
    const wrong = [...new Set(others)].filter((other) => other !== answer).slice(0, 3);
    return { question, choices: [answer, ...wrong], label: 0 };
  });
  const text = all.map(({ prompt, answer }) => `question: ${prompt} answer: ${answer}`).join(" ");
  const texts = [40, 400, LONG_CHARS].map((chars) => ({ text: text.slice(0, chars) }));
  const data = join(folder, "data");
  mkdirSync(data);
  for (const [name, lines] of Object.entries({ answers, choice: choices, texts })) {
    const content = lines.map((line) => JSON.stringify(line)).join("\n");
    writeFileSync(join(data, `${name}.jsonl`), content);
  }
  const tasks = join(folder, "tasks");
  cpSync(TASKS, tasks, { recursive: true });
  for (const file of readdirSync(tasks)) {
    const yaml = readFileSync(join(tasks, file), "utf8");
    writeFileSync(join(tasks, file), yaml.replace("${DATA}", data));
  }
  return tasks;
}

/** Two ensembles of the same models: `base` with alpha 0 and `steered` with alpha 1. */
export function writeManifest(folder: string): string {
  const path = (name: string) => ({ path: join(MODELS, name) });
  const models = {
    base: path("base"),
    expert: path("atlas-expert"),
    antiexpert: path("antiexpert"),
  };
  const ensemble = (id: string, alpha: number) => ({
    id,
    description: `The demo base with alpha ${alpha}`,
    alpha,
    alphaMax: 2,
    ...models,
  });
  const file = join(folder, "ensembles.json");
  const ensembles = [ensemble("base", 0), ensemble("steered", 1)];
  writeFileSync(file, JSON.stringify({ ensembles }));
  return file;
}
