import * as fc from "fast-check";
import { expect, test } from "vitest";
import { StopStrings } from "../../../worker/decode/stop-strings.ts";

interface Found {
  readonly text: string;
  readonly stopped: boolean;
}

/** Reads letter by letter and ends where first a stop string is complete, before the longest that ends there. */
function reference(text: string, stops: readonly string[]): Found {
  for (let end = 1; end <= text.length; end++) {
    const ending = stops.filter((stop) => text.slice(0, end).endsWith(stop));
    const longest = Math.max(0, ...ending.map((stop) => stop.length));
    if (longest > 0) return { text: text.slice(0, end - longest), stopped: true };
  }
  return { text, stopped: false };
}

function stream(chunks: readonly string[], stops: readonly string[]): Found {
  const stopStrings = new StopStrings(stops);
  let text = "";
  for (const chunk of chunks) {
    const found = stopStrings.push(chunk);
    text += found.text;
    if (found.stopped) return { text, stopped: true };
  }
  return { text: text + stopStrings.flush(), stopped: false };
}

const letters = (minLength: number, maxLength: number) =>
  fc.string({ unit: fc.constantFrom("a", "b", "c"), minLength, maxLength });
const stops = fc.array(letters(1, 5), { maxLength: 4 });

test("any split of a text ends it where its first complete stop string begins", () => {
  fc.assert(
    fc.property(fc.array(letters(0, 6), { maxLength: 12 }), stops, (chunks, stops) => {
      expect(stream(chunks, stops)).toEqual(reference(chunks.join(""), stops));
    }),
    { numRuns: 1_000 },
  );
});

test("of overlapping stop strings the one that is complete first wins, also in one piece", () => {
  expect(stream(["xabcd"], ["abcd", "bc"])).toEqual({ text: "xa", stopped: true });
  expect(stream(["xabc", "d"], ["abcd", "bc"])).toEqual({ text: "xa", stopped: true });
});

test("no more is held back than what may become a stop string", () => {
  const stopStrings = new StopStrings(["\n\nQ:", "END"]);
  expect(stopStrings.push("one\n")).toEqual({ text: "one", stopped: false });
  expect(stopStrings.push("two E")).toEqual({ text: "\ntwo ", stopped: false });
  expect(stopStrings.push("N")).toEqual({ text: "", stopped: false });
  expect(stopStrings.push("!")).toEqual({ text: "EN!", stopped: false });
});

test("flush gives out what was held, once", () => {
  const stopStrings = new StopStrings(["stop"]);
  stopStrings.push("abc st");
  expect(stopStrings.flush()).toBe("st");
  expect(stopStrings.flush()).toBe("");
});
