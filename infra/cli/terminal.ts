/** Output of commands on a terminal, and arguments that several commands have. */
import { InvalidArgumentError, Option } from "commander";

/** Columns left free at the right, because a piece of text that continues a word stays on the word's line. */
const MARGIN_COLUMNS = 12;
const LABEL_COLUMNS = 16;

/** A label and, to its right, text that arrives in pieces: it is indented and wrapped. */
export class Paragraph {
  readonly #indent: string;
  readonly #endColumn: number;
  #column: number;

  constructor(label: string) {
    this.#indent = " ".repeat(LABEL_COLUMNS);
    this.#endColumn = Math.min(process.stdout.columns ?? 100, 110) - MARGIN_COLUMNS;
    this.#column = LABEL_COLUMNS;
    process.stdout.write(label.padEnd(LABEL_COLUMNS));
  }

  /** Adds text. A line break in it is shown as "↵", and the space before the first word is not shown. */
  add(text: string): void {
    const shown = this.#column === LABEL_COLUMNS ? text.trimStart() : text;
    for (const word of shown.replaceAll("\n", "↵").split(/(?= )/)) {
      if (this.#column > this.#endColumn && word.startsWith(" ")) {
        process.stdout.write(`\n${this.#indent}${word.trimStart()}`);
        this.#column = LABEL_COLUMNS + word.length;
      } else {
        process.stdout.write(word);
        this.#column += word.length;
      }
    }
  }

  end(): void {
    process.stdout.write("\n");
  }
}

export function printLabelled(label: string, text: string): void {
  console.log(label.padEnd(LABEL_COLUMNS) + text);
}

/** @returns the URL unchanged */
export function toHttpUrl(value: string): string {
  const url = URL.parse(value);
  const isHttp = url?.protocol === "http:" || url?.protocol === "https:";
  if (isHttp && url.username === "" && url.password === "") return value;
  throw new InvalidArgumentError("Expected an http:// or https:// URL without user and password.");
}

/** The port of the edge, which the variable PORT also sets. */
export function portOption(): Option {
  return new Option("--port <number>", "port of the edge")
    .env("PORT")
    .default(8787)
    .argParser(toPort);
}

function toPort(value: string): number {
  const port = Number(value);
  if (Number.isInteger(port) && port > 0 && port < 65_536) return port;
  throw new InvalidArgumentError("Expected a number from 1 to 65535.");
}
