/** Finds the end of a JSON value that arrives in pieces. It does not check the value. */
export class JsonScanner {
  #depth = 0;
  #inString = false;
  #escaped = false;
  #started = false;
  #isComplete = false;

  get isComplete(): boolean {
    return this.#isComplete;
  }

  /** Reads the next piece. @returns how many of its characters belong to the value */
  push(text: string): number {
    for (let i = 0; i < text.length && !this.#isComplete; i++) {
      if (this.#read(text[i]!)) return i;
      if (this.#isComplete) return i + 1;
    }
    return this.#isComplete ? 0 : text.length;
  }

  /** @returns true if the value ended before this character */
  #read(character: string): boolean {
    if (this.#inString) this.#readInString(character);
    else if (character === '"') this.#inString = this.#started = true;
    else if (character === "{" || character === "[") {
      this.#depth++;
      this.#started = true;
    } else if (character === "}" || character === "]") {
      // A number or a literal ends at the bracket around it.
      if (this.#depth === 0) return (this.#isComplete = true);
      if (--this.#depth === 0) this.#isComplete = true;
    } else if (this.#depth === 0) {
      const ends = character === "," || /\s/.test(character);
      if (ends && this.#started) return (this.#isComplete = true);
      this.#started = true;
    }
    return false;
  }

  #readInString(character: string): void {
    if (this.#escaped) this.#escaped = false;
    else if (character === "\\") this.#escaped = true;
    else if (character === '"') {
      this.#inString = false;
      if (this.#depth === 0) this.#isComplete = true;
    }
  }
}
