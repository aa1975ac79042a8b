/** Templates give the texts of Python's jinja2 in transformers; the expected texts were made with it. */
import { expect, test } from "vitest";
import { JinjaTemplate } from "../../../../worker/engine/model/jinja.ts";
import { ChatTemplate } from "../../../../worker/engine/model/chat-template.ts";

const render = (source: string, items: object = {}, nowMs = 0) =>
  new JinjaTemplate(source).render({ ...items }, nowMs);

test.each([
  ["{{ text.lstrip('\\n') }}|", "\n\n  x ", "  x |"],
  ["{{ text.rstrip('\\n') }}|", " x \n\n", " x |"],
  ["{{ text.strip('x\\n') }}|", "x\nay\nx", "ay|"],
  ["{{ text.strip('</think>') }}|", "<think>ab</think>", "ab|"],
  ["{{ text.lstrip() }}|", " \n x ", "x |"],
  ["{{ text.split('#')[-1].lstrip('\\n') }}|", "a#\n b", " b|"],
  ["{% for p in text.split('#') %}{{ p.rstrip('.') }}{% endfor %}", "a.#b..", "ab"],
])("%s of %j", (source, text, expected) => {
  expect(render(source, { text })).toBe(expected);
});

test("line ends of Windows are those of Unix", () => {
  expect(render("a\r\n{% if true %}\r\nb\r\n{% endif %}\r\nc\r\n")).toBe("a\nb\nc");
});

test("the time is the one that is given, in UTC", () => {
  const nowMs = Date.UTC(2026, 2, 5, 23, 4, 9);
  expect(render("{{ strftime_now('%d %b %Y, %A %B %-d %H:%M:%S %j %I%p %%') }}", {}, nowMs)).toBe(
    "05 Mar 2026, Thursday March 5 23:04:09 064 11PM %",
  );
  expect(new JinjaTemplate("{{ strftime_now('%Y') }}").readsClock).toBe(true);
  expect(new JinjaTemplate("{{ 1 }}").readsClock).toBe(false);
});

test("a chat template without tools and documents gets none, as in transformers", () => {
  const source =
    "{{ tools is none }} {{ tools is defined }} {{ documents is none }} {{ documents is defined }}";
  const template = new ChatTemplate({ main: source }, {});
  const text = template.render([{ role: "user", content: "x" }]).toLowerCase();
  expect(text).toBe("true true true true");
});
