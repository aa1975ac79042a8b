/** The folder of the demo models' base. It has a byte-level tokenizer, in lower case only. */
import { join } from "node:path";

export const DEMO_MODEL = join(import.meta.dirname, "../../infra/models/base");
