/** The inputs of the harness, in a temporary folder: tasks with their questions, and the manifest of the models. */
import { cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DEMO_TASKS, loadItems, TASK_MODELS } from "../task.ts";

const DATA = join(import.meta.dirname, "../data/atlas-qa.test.jsonl");
/** Tasks of the comparison, and those of the table. */
const TASKS = join(import.meta.dirname, "tasks");
const TABLE_TASKS = join(import.meta.dirname, "table");
const MODELS = join(import.meta.dirname, "../../../infra/models");
export const BASE_FOLDER = join(MODELS, "base");
/** Characters of the longest text, which has more tokens than the context. */
const LONG_CHARS = 6_000;

/** The tasks of the comparison; each is a file in `tasks/`. */
export const TASK_NAMES = readdirSync(TASKS).map((file) => file.replace(".yaml", ""));

interface Question {
  readonly prompt: string;
  readonly answer: string;
  readonly attribute: string;
}

/**
 * @param count questions of each task of the comparison
 * @param tableCount questions of each task of the table
 * @returns the folder of the tasks
 */
export function writeInputs(folder: string, count: number, tableCount: number): string {
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
  for (const task of DEMO_TASKS) {
    const lines = loadItems(task, "test").slice(0, tableCount);
    writeFileSync(
      join(data, `${task}.jsonl`),
      lines.map((line) => JSON.stringify(line)).join("\n"),
    );
  }
  const tasks = join(folder, "tasks");
  for (const source of [TASKS, TABLE_TASKS]) cpSync(source, tasks, { recursive: true });
  for (const file of readdirSync(tasks)) {
    const yaml = readFileSync(join(tasks, file), "utf8");
    writeFileSync(join(tasks, file), yaml.replace("${DATA}", data));
  }
  return tasks;
}

/**
 * Ensembles of the demo models: `base` with alpha 0 and `steered` with alpha 1.
 * @param withTable adds those of each task: steered, the expert alone, and the base tuned directly
 */
export function writeManifest(folder: string, withTable: boolean): string {
  const path = (name: string) => ({ path: join(MODELS, name) });
  const ensemble = (id: string, alpha: number, base: Model, expert: Model) => {
    const models = { base, expert, antiexpert: path("antiexpert") };
    return { id, description: `${id}, alpha ${alpha}`, alpha, alphaMax: 2, ...models };
  };
  const ensembles = (withTable ? DEMO_TASKS : []).flatMap((task) => {
    const { expert, tuned } = TASK_MODELS[task];
    return [
      ensemble(task, 1, path("base"), path(expert)),
      ensemble(expert, 0, path(expert), path(expert)),
      ensemble(tuned, 0, { ...path(tuned), dtype: "int8" }, path(expert)),
    ];
  });
  const file = join(folder, "ensembles.json");
  const [base, expert] = [path("base"), path("atlas-expert")];
  ensembles.push(ensemble("base", 0, base, expert), ensemble("steered", 1, base, expert));
  writeFileSync(file, JSON.stringify({ ensembles }));
  return file;
}

interface Model {
  readonly path: string;
  readonly dtype?: "int8";
}
