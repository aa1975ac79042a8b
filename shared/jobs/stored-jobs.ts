/**
 * The jobs of a request as they are stored. They share what is the same for all of them, or for all choices of one prompt: the hash
 * of each job has only the members that differ, such as its seed, and names the hash that has the rest.
 */
import { LIMITS } from "../api/limits.ts";
import { JOB_VERSION } from "../redis/version.ts";
import type { Generation, NewJob } from "./record.ts";
import { requestFields } from "./sent-request.ts";

export type Fields = Readonly<Record<string, string>>;

export interface StoredJobs {
  /** Fields of the hash of each job. */
  readonly jobs: readonly Fields[];
  /** The parts that several jobs share, by the id of the first of them. */
  readonly shared: ReadonlyMap<string, Fields>;
}

export function storedJobs(jobs: readonly NewJob[]): StoredJobs {
  const shared = new Map<string, Fields>();
  const fields = groupsOf(jobs).flatMap((group) => {
    const [first] = group;
    if (group.length === 1) return group.map((job) => jobFields(job));
    const varying = VARYING.filter(
      (name) => !group.every(({ generation }) => generation[name] === first!.generation[name]),
    );
    const generation = without(first!.generation, varying);
    const options = without(first!.requestOptions, ["choices"]);
    shared.set(first!.id, {
      generation: JSON.stringify(generation),
      requestOptions: JSON.stringify(options),
      // Jobs that are not deleted, and jobs that have not ended.
      jobs: String(group.length),
      open: String(group.length),
    });
    return group.map((job) => ({
      ...jobFields(job, pick(job.generation, varying), choicesOf(job)),
      shared: first!.id,
    }));
  });
  return { jobs: fields, shared };
}

const choicesOf = ({ requestOptions: { choices } }: NewJob) =>
  choices === undefined ? {} : { choices };

/** Fields of a job's hash that a request sets. The script adds its times, its cost and its place in the queue. */
export function jobFields(
  job: NewJob,
  generation: object = job.generation,
  requestOptions: object = job.requestOptions,
): Record<string, string> {
  return {
    version: String(JOB_VERSION),
    id: job.id,
    tenant: job.tenant,
    state: "queued",
    attempt: "0",
    model: job.generation.model,
    generation: JSON.stringify(generation),
    requestOptions: JSON.stringify(requestOptions),
    ...(job.requestOptions.store === false && { keepMs: String(LIMITS.unstoredMs) }),
    webhookUrl: job.webhookUrl ?? "",
    metadata: JSON.stringify(job.metadata),
    ...outputTools(job.generation),
    ...requestFields(job),
    priority: String(job.priority ?? 0),
  };
}

/** The settings of the parser of calls. The generation has them too, but with the input, which may be large. */
function outputTools({ tools }: Generation) {
  if (!tools || tools.choice === "none") return {};
  const functions = tools.functions.map(({ name }) => ({ name }));
  return { outputTools: JSON.stringify({ ...tools, functions }) };
}

/** The members of a generation in which the jobs of a request may differ. */
const VARYING = ["seed", "input", "completion", "maxTokens", "promptLogprobs"] as const;

/** The jobs in their order, those that share a hash in one group. */
function groupsOf(jobs: readonly NewJob[]): NewJob[][] {
  const all = splitWhere(jobs, (a, b) => !isSame(a, b));
  return all.flatMap((group) => {
    const byPrompt = splitWhere(group, (a, b) => a.generation.input !== b.generation.input);
    if (byPrompt.length === 1 || byPrompt.length === group.length) return [group];
    // Either all other members are stored once for each prompt, or each prompt once for each of its jobs: the shorter of the two.
    const common = JSON.stringify(without(group[0]!.generation, VARYING)).length;
    const repeatedPrompts = byPrompt.reduce((sum, [first, ...others]) => {
      return sum + others.length * JSON.stringify(first!.generation.input).length;
    }, 0);
    return (byPrompt.length - 1) * common < repeatedPrompts ? byPrompt : [group];
  });
}

function splitWhere(
  jobs: readonly NewJob[],
  differ: (a: NewJob, b: NewJob) => boolean,
): NewJob[][] {
  const groups: NewJob[][] = [];
  for (const job of jobs) {
    const group = groups.at(-1);
    if (group && !differ(group[0]!, job)) group.push(job);
    else groups.push([job]);
  }
  return groups;
}

const isSame = (a: NewJob, b: NewJob) =>
  isSameBut(a.generation, b.generation, VARYING) &&
  isSameBut(a.requestOptions, b.requestOptions, ["choices"]);

/** Whether all other members are identical. Jobs of one request have the same values, not copies of them. */
function isSameBut<T extends object>(a: T, b: T, except: readonly (keyof T)[]): boolean {
  const names = new Set([...Object.keys(a), ...Object.keys(b)] as (keyof T)[]);
  for (const name of except) names.delete(name);
  return [...names].every((name) => a[name] === b[name]);
}

function without<T extends object>(value: T, names: readonly (keyof T)[]): Partial<T> {
  const rest = { ...value };
  for (const name of names) delete rest[name];
  return rest;
}

function pick(
  generation: Generation,
  names: readonly (typeof VARYING)[number][],
): Partial<Generation> {
  return Object.fromEntries(names.map((name) => [name, generation[name]]));
}
