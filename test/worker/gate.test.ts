import { expect, test } from "vitest";
import { Gate } from "../../worker/gate.ts";

/** Everything that can go on by itself has. */
const settled = () => new Promise(setImmediate);

test("who asks to be alone is, and nobody is overtaken", async () => {
  const gate = new Gate();
  const log: string[] = [];
  const leaves = new Map<string, () => void>();
  const enter = async (name: string, alone: boolean) => {
    leaves.set(name, await gate.enter(alone));
    log.push(name);
  };
  const left = async (...names: string[]) => {
    for (const name of names) leaves.get(name)!();
    await settled();
  };
  const all = ["a", "b", "LONER", "c", "SECOND", "d"].map((name) =>
    enter(name, name === name.toUpperCase()),
  );
  await settled();
  expect(log).toEqual(["a", "b"]);
  await left("a");
  expect(log).toEqual(["a", "b"]);
  await left("b");
  expect(log).toEqual(["a", "b", "LONER"]);
  await left("LONER");
  expect(log).toEqual(["a", "b", "LONER", "c"]);
  await left("c");
  expect(log).toEqual(["a", "b", "LONER", "c", "SECOND"]);
  await left("SECOND");
  await Promise.all(all);
  expect(log.at(-1)).toBe("d");
});
