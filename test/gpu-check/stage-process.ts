/** The process of one stage: `node stage-process.ts OPTIONS`, with `StageOptions` as JSON. A crash of a driver ends only this process. */
import {
  errorLine,
  type Stage,
  type StageMessage,
  type StageName,
  type StageOptions,
} from "./stage.ts";
import { cache } from "./stages/cache.ts";
import { golden } from "./stages/golden.ts";
import { models } from "./stages/models.ts";
import { provider } from "./stages/provider.ts";
import { speed } from "./stages/speed.ts";
import { transfer } from "./stages/transfer.ts";

const STAGES: Readonly<Record<StageName, Stage>> = {
  models,
  provider,
  golden,
  transfer,
  cache,
  speed,
};

const send = (message: StageMessage) =>
  new Promise<void>((resolve, reject) => {
    process.send!(message, (error: Error | null) => (error ? reject(error) : resolve()));
  });

const options = JSON.parse(process.argv[2]!) as StageOptions;
const endMs = performance.now() + options.seconds * 1000;
try {
  const isLate = () => performance.now() > endMs;
  for await (const row of STAGES[options.stage]({ ...options, isLate })) {
    await send({ type: "row", row });
  }
} catch (error) {
  await send({ type: "failed", reason: errorLine(error) });
}
process.exit();
