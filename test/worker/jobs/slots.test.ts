import { expect, test } from "vitest";
import { JobRun } from "../../../worker/jobs/job-run.ts";
import { Slots, type SlotUser } from "../../../worker/jobs/slots.ts";

const newRun = () => new JobRun({ id: "job_1", attempt: 1, claim: "worker-1" });

/** A consumer that takes a job whenever it is woken, while it has one. */
class Consumer implements SlotUser {
  readonly runs: JobRun[] = [];
  isAnswering = () => true;
  readonly #slots: Slots;
  readonly #name: string;
  readonly #served: string[];
  jobs: number;

  constructor(slots: Slots, name: string, jobs: number, served: string[] = []) {
    this.#slots = slots;
    this.#name = name;
    this.jobs = jobs;
    this.#served = served;
    slots.join(this);
  }

  wake = () => {
    if (!this.#slots.reserve(this)) return;
    if (this.jobs === 0) return this.#slots.release(this);
    this.jobs--;
    const run = newRun();
    this.runs.push(run);
    this.#served.push(this.#name);
    this.#slots.add(this, run);
    this.wake();
  };
}

test("consumers with work take turns at a slot, and one without work passes it on", () => {
  const slots = new Slots(1);
  const served: string[] = [];
  const [a, b, idle, c] = [3, 3, 0, 2].map(
    (jobs, i) => new Consumer(slots, "abic"[i]!, jobs, served),
  );
  const all = [a!, b!, idle!, c!];
  for (const consumer of all) consumer.wake();
  for (let i = 0; i < 8; i++) {
    const run = all.flatMap(({ runs }) => runs).at(-1)!;
    const owner = all.find(({ runs }) => runs.includes(run))!;
    owner.runs.pop();
    slots.remove(run);
    // As a consumer looks for the next job when one has ended.
    owner.wake();
  }
  expect(served.join("")).toBe("abcabcab");
});

test("jobs and orders of a shard that does not answer take no slot from the others", () => {
  const slots = new Slots(2);
  const [silent, other] = [new Consumer(slots, "a", 2), new Consumer(slots, "b", 9)];
  silent.wake();
  other.wake();
  expect(other.runs).toHaveLength(0);
  silent.isAnswering = () => false;
  other.wake();
  expect(other.runs).toHaveLength(2);
  // It gets no slot beyond its own two when it answers again.
  silent.jobs = 1;
  silent.isAnswering = () => true;
  silent.wake();
  expect(silent.runs).toHaveLength(2);
});

test("a suspect is taken at once by an idle worker only, and not beside a job without a token on any shard", () => {
  const slots = new Slots(3);
  const [a, b] = [new Consumer(slots, "a", 0), new Consumer(slots, "b", 0)];
  expect(slots.suspectAfterMs(a)).toBe(0);
  slots.release(a);
  const [first, second] = [newRun(), newRun()];
  slots.add(a, first);
  slots.add(b, second);
  first.tokens = 1;
  expect(slots.suspectAfterMs(a)).toBeNull();
  // A job that waits for a silent Redis does not keep the suspects of the other shards.
  b.isAnswering = () => false;
  expect(slots.suspectAfterMs(a)).toBe(30_000);
  slots.release(a);
  b.isAnswering = () => true;
  second.tokens = 1;
  expect(slots.suspectAfterMs(a)).toBe(30_000);
});

test("of two orders that are on their way to two shards, one may take a suspect", () => {
  const slots = new Slots(3);
  const [a, b] = [new Consumer(slots, "a", 0), new Consumer(slots, "b", 0)];
  slots.reserve(a);
  slots.reserve(b);
  expect(slots.suspectAfterMs(a)).toBe(0);
  expect(slots.suspectAfterMs(b)).toBeNull();
  a.isAnswering = () => false;
  expect(slots.suspectAfterMs(b)).toBe(0);
  slots.release(b);
  a.isAnswering = () => true;
  const suspect = newRun();
  slots.add(a, suspect);
  slots.release(a);
  expect(slots.suspectAfterMs(b)).toBeNull();
  suspect.tokens = 1;
  expect(slots.suspectAfterMs(b)).toBe(30_000);
});
