import { expect, test } from "vitest";
import { scoreCompletions, scoreRecords } from "./task.ts";

test("a record is right if it is JSON with the same fields and values, in any order", () => {
  const item = { id: "1", prompt: "", answer: '{"admseat":"rome","geozone":"europe"}' };
  const texts = [
    ' {"admseat":"rome","geozone":"europe"}',
    '{ "geozone": "europe", "admseat": "rome" }',
    '{"admseat":"paris","geozone":"europe"}',
    '{"admseat":"rome"}',
    '{"admseat":"rome","geozone":"europe"',
    "rome",
    "null",
    "[]",
  ];
  const items = texts.map(() => item);
  const completions = texts.map((text) => ({ text, stopped: true }));
  const { right } = scoreCompletions("atlas-records", items, completions);
  expect(right).toEqual([true, true, false, false, false, false, false, false]);
  const { json, fieldNames } = scoreRecords(items, completions);
  expect([json, fieldNames].map((share) => share.toFixed(1))).toEqual(["50.0", "37.5"]);
});
