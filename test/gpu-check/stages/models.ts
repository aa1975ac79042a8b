/** Inflates the demo family on this machine: the archive carries only the small models. */
import { statSync } from "node:fs";
import { join } from "node:path";
import { family, ROLES } from "../../bench/models/family.ts";
import type { StageInput, Row } from "../stage.ts";

export async function* models({ family: name }: StageInput): AsyncGenerator<Row, void, undefined> {
  const folders = family(name);
  for (const role of ROLES) {
    const { size } = statSync(join(folders[role], "onnx/model.onnx"));
    yield { model: role, "MiB in fp32": size / 2 ** 20 };
  }
}
