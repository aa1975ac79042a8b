/**
 * Measures what one token costs besides the models (measure.ts), for large
 * vocabularies and for distributions that are hard to cut. Prints milliseconds of CPU time, the mean: the clock has steps of 4 ms.
 *
 *     npm run bench:tokens -- --vocab 262144 --json results.json
 */
import { writeFileSync } from "node:fs";
import { Command } from "commander";
import { CASES, DISTRIBUTIONS, measureToken } from "./measure.ts";

const options = new Command()
  .option("--vocab <sizes...>", "sizes of the vocabulary", ["131072", "262144"])
  .option("--runs <n>", "tokens of each measurement", "50")
  .option("--json <file>", "writes the results to a file")
  .parse()
  .opts<{ vocab: string[]; runs: string; json?: string }>();

const runs = Number(options.runs);
const results: Record<string, Record<string, Record<string, number>>> = {};
for (const size of options.vocab.map(Number)) {
  const columns = Object.keys(DISTRIBUTIONS);
  console.log(
    `\n${`${size} tokens`.padEnd(32)}${columns.map((name) => name.padStart(9)).join("")}`,
  );
  const table = (results[size] = {} as Record<string, Record<string, number>>);
  for (const [name, one] of Object.entries(CASES)) {
    const row = (table[name] = {} as Record<string, number>);
    for (const distribution of columns)
      row[distribution] = measureToken(one, distribution, { size, runs });
    const cells = Object.values(row).map((ms) => ms.toFixed(2).padStart(9));
    console.log(`${name.padEnd(32)}${cells.join("")}`);
  }
}
if (options.json) writeFileSync(options.json, `${JSON.stringify(results, null, 2)}\n`);
