/** The option of both commands that chooses the models. */
import { Option } from "commander";
import { FAMILY_NAMES } from "../models/family.ts";

export const familyOption = () =>
  new Option("--family <name>", "models: the demo's, or inflated to 98M and 10M parameters")
    .choices(FAMILY_NAMES)
    .default("inflated");
