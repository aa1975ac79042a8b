/** Stop strings in streamed text, against a reference that reads letter by letter. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { StopStrings } from "../../../../worker/engine/decode/stop-strings.ts";

interface Found {
  readonly text: string;
  readonly stopped: boolean;
}

/** Reference: ends at the first letter that completes a stop string, before the longest one that ends there. */
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

test("a text ends before its first complete stop string, however it is split", () => {
  fc.assert(
    fc.property(fc.array(letters(0, 6), { maxLength: 12 }), stops, (chunks, stops) => {
      expect(stream(chunks, stops)).toEqual(reference(chunks.join(""), stops));
    }),
    { numRuns: 1_000 },
  );
});

test("of overlapping stop strings the one that is complete first wins, also within one chunk", () => {
  expect(stream(["xabcd"], ["abcd", "bc"])).toEqual({ text: "xa", stopped: true });
  expect(stream(["xabc", "d"], ["abcd", "bc"])).toEqual({ text: "xa", stopped: true });
});

test("only text that may become a stop string is held back", () => {
  const stopStrings = new StopStrings(["\n\nQ:", "END"]);
  expect(stopStrings.push("one\n")).toEqual({ text: "one", stopped: false });
  expect(stopStrings.push("two E")).toEqual({ text: "\ntwo ", stopped: false });
  expect(stopStrings.push("N")).toEqual({ text: "", stopped: false });
  expect(stopStrings.push("!")).toEqual({ text: "EN!", stopped: false });
});

test("flush returns the text that was held back, once", () => {
  const stopStrings = new StopStrings(["stop"]);
  stopStrings.push("abc st");
  expect(stopStrings.flush()).toBe("st");
  expect(stopStrings.flush()).toBe("");
});
