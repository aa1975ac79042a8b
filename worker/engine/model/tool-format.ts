/** Chooses the format in which the models of an ensemble call functions, and checks that their templates fit it. */
import {
  DEFAULT_TOOL_FORMAT,
  TOOL_FORMAT_NAMES,
  type ToolFormatName,
} from "../../../shared/tools/formats.ts";
import type { ChatTemplate } from "./chat-template.ts";
import { templateTools } from "./tool-template-check.ts";

export interface ToolFormatChoice {
  readonly format: ToolFormatName;
  /** Messages for the log about templates whose tools are not used. */
  readonly warnings: readonly string[];
}

/**
 * Chooses the format, and sets it in the templates. A model whose template does not render tools in the format gets them in the
 * default form (default-tool-prompt.ts).
 * @param wanted the manifest's `toolFormat`
 * @param templates by role, the base first
 * @throws Error if the base's template writes calls in another format than the manifest says
 */
export function chooseToolFormat(
  wanted: ToolFormatName | undefined,
  templates: Readonly<Record<string, ChatTemplate | null>>,
): ToolFormatChoice {
  const { base = null } = templates;
  const fitting = (name: ToolFormatName) => base && templateTools(base, name).spelling !== null;
  const format = wanted ?? TOOL_FORMAT_NAMES.find(fitting) ?? DEFAULT_TOOL_FORMAT;
  const warnings: string[] = [];
  for (const [role, template] of Object.entries(templates)) {
    if (!template) continue;
    const tools = templateTools(template, format);
    template.useToolFormat(format, tools.spelling);
    if (tools.spelling || !tools.showsTools) continue;
    const message = `the chat template of the ${role} model has tools, but not in the format ${format}: ${tools.reason}`;
    if (wanted && template === base) {
      throw new Error(`toolFormat: ${message}. Use another toolFormat or chatTemplate`);
    }
    warnings.push(`${message}. The model gets tools in the default form instead`);
  }
  return { format, warnings };
}
