import { expect, test } from "vitest";
import { Turns } from "../../../../worker/engine/prepare/turns.ts";

const taken = (turns: Turns<string>) => {
  const items: string[] = [];
  for (let next = turns.next(); next; next = turns.next()) items.push(next);
  return items;
};

test("tenants take turns, each in the order of its items", () => {
  const turns = new Turns<string>();
  for (const item of ["a1", "a2", "a3", "b1", "c1", "c2"]) turns.add(item[0]!, item);
  expect(taken(turns)).toEqual(["a1", "b1", "c1", "a2", "c2", "a3"]);
});

test("a tenant that comes later waits for one item of each other tenant", () => {
  const turns = new Turns<string>();
  for (let i = 0; i < 1_000; i++) turns.add("a", "a");
  expect(turns.next()).toBe("a");
  turns.add("b", "b");
  expect([turns.next(), turns.next(), turns.next()]).toEqual(["a", "b", "a"]);
});

test("a removed item is not taken", () => {
  const turns = new Turns<string>();
  for (const item of ["a1", "a2", "b1"]) turns.add(item[0]!, item);
  turns.remove((item) => item === "b1");
  turns.remove((item) => item === "a1");
  turns.remove((item) => item === "missing");
  expect(taken(turns)).toEqual(["a2"]);
});
