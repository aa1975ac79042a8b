/** The fields that restrict the answer's text: stop strings and the response format. */
import type { ResponseFormat } from "../../../shared/api/response-formats.ts";
import { byId, part } from "./dom.ts";

type FormatType = ResponseFormat["type"];

/** The formats that have a text of their own, with an example of it. */
const FORMAT_TEXTS: Readonly<Partial<Record<FormatType, string>>> = {
  regex: "The capital is [A-Z][a-z]+\\.",
  grammar: 'root ::= "yes" | "no"',
  json_schema: '{"type":"object","properties":{"answer":{"type":"string"}},"required":["answer"]}',
};

export class OutputFields {
  readonly #stop = byId("stop-strings", HTMLTextAreaElement);
  readonly #type = byId("format", HTMLSelectElement);
  readonly #text = byId("format-text", HTMLTextAreaElement);

  constructor(onChange: (name: "stop" | "response_format") => void) {
    this.#stop.addEventListener("change", () => onChange("stop"));
    this.#text.addEventListener("change", () => onChange("response_format"));
    this.#type.addEventListener("change", () => {
      this.#text.value = FORMAT_TEXTS[this.#type.value as FormatType] ?? "";
      this.#show();
      onChange("response_format");
    });
    this.#show();
  }

  get stop(): readonly string[] | null {
    const lines = this.#stop.value.split("\n").filter((line) => line !== "");
    return lines.length === 0 ? null : lines.map((line) => line.replaceAll("\\n", "\n"));
  }

  set stop(strings: readonly string[] | null) {
    const lines = (strings ?? []).map((text) => text.replaceAll("\n", "\\n"));
    this.#stop.value = lines.join("\n");
  }

  /** @throws Error if the text of a JSON Schema is not JSON */
  get format(): ResponseFormat | null {
    const text = this.#text.value;
    switch (this.#type.value as FormatType) {
      case "json_object":
        return { type: "json_object" };
      case "regex":
        return { type: "regex", pattern: text };
      case "grammar":
        return { type: "grammar", grammar: text };
      case "json_schema":
        return { type: "json_schema", json_schema: { name: "answer", schema: parsed(text) } };
      case "text":
        return null;
    }
  }

  set format(format: ResponseFormat | null) {
    this.#type.value = format?.type ?? "text";
    this.#text.value = textOf(format);
    this.#show();
  }

  #show(): void {
    part("format-text-field").hidden = FORMAT_TEXTS[this.#type.value as FormatType] === undefined;
  }
}

function textOf(format: ResponseFormat | null): string {
  if (format?.type === "regex") return format.pattern;
  if (format?.type === "grammar") return format.grammar;
  if (format?.type === "json_schema") return JSON.stringify(format.json_schema.schema);
  return "";
}

function parsed(text: string): Readonly<Record<string, unknown>> {
  try {
    return JSON.parse(text) as Readonly<Record<string, unknown>>;
  } catch (error) {
    const message = `response_format: the schema is not JSON: ${(error as Error).message}`;
    throw new Error(message, { cause: error });
  }
}
