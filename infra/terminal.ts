/** Text on a terminal that comes piece by piece: labelled, indented and wrapped. */

/** Columns left free at the right: a piece that continues a word is never moved to the next line. */
const MARGIN = 12;
const LABEL_COLUMNS = 16;

export class Paragraph {
  readonly #indent: string;
  readonly #endColumn: number;
  #column: number;

  /** Begins with a label; the text follows to its right. */
  constructor(label: string) {
    this.#indent = " ".repeat(LABEL_COLUMNS);
    this.#endColumn = Math.min(process.stdout.columns ?? 100, 110) - MARGIN;
    this.#column = LABEL_COLUMNS;
    process.stdout.write(label.padEnd(LABEL_COLUMNS));
  }

  /** Adds text; line breaks in it are shown as a sign, and the space before the first word is not shown. */
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

/** One labelled line. */
export function line(label: string, text: string): void {
  console.log(label.padEnd(LABEL_COLUMNS) + text);
}
