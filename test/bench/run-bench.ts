/** Runs a benchmark that starts child processes, prints its report and writes it as JSON. */
import { writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { stopOnInterrupt } from "../../infra/stack/interrupt.ts";
import { stopAllChildren } from "../../infra/stack/process.ts";
import { errorText } from "../../infra/stack/user-error.ts";

/** @param json file for the report; undefined for none */
export async function runBench<Report>(
  bench: () => Promise<Report>,
  print: (report: Report) => void,
  json: string | undefined,
): Promise<void> {
  stopOnInterrupt();
  try {
    const report = await bench();
    print(report);
    if (json !== undefined) {
      writeFileSync(json, JSON.stringify(report, null, 2));
      console.log(`\nwritten to ${resolve(json)}`);
    }
  } catch (error) {
    console.error(errorText(error));
    process.exitCode = 1;
  } finally {
    await stopAllChildren();
  }
}
