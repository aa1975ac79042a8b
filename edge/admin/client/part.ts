/** One part of the page: it is read again and again, and keeps the focus, a selection and its scroll position when it is shown anew. */
import type { Viewer } from "./viewer.ts";
import { part as elementOf } from "../../play/client/dom.ts";

export interface Part {
  /** The id of its section. */
  readonly id: string;
  readonly isShownTo: (viewer: Viewer) => boolean;
  /** Reads its data and makes its elements. */
  readonly load: (viewer: Viewer) => Promise<readonly Node[]>;
}

/** Shows or hides the part, and reads it. An error is shown in its place. */
export async function refresh(part: Part, viewer: Viewer): Promise<void> {
  const section = elementOf(part.id);
  section.hidden = !part.isShownTo(viewer);
  if (section.hidden) return;
  try {
    replace(part.id, await part.load(viewer));
  } catch (error) {
    const problem = document.createElement("p");
    problem.className = "notice";
    problem.textContent = error instanceof Error ? error.message : "The data could not be read";
    replace(part.id, [problem]);
  }
}

function replace(id: string, nodes: readonly Node[]): void {
  const body = elementOf(`${id}-body`);
  if (hasSelection(body)) return;
  const scrolled = [...body.querySelectorAll(".scroll")].map(({ scrollLeft }) => scrollLeft);
  const focused = document.activeElement;
  const region = [...body.querySelectorAll(".scroll")].indexOf(focused as Element);
  const isFocused = body.contains(focused);
  body.replaceChildren(...nodes);
  const regions = body.querySelectorAll<HTMLElement>(".scroll");
  for (const [i, made] of regions.entries()) made.scrollLeft = scrolled[i] ?? 0;
  if (!isFocused || focused === null) return;
  const again = region >= 0 ? regions[region] : document.getElementById(focused.id);
  // The focused element may be gone, such as the button of a job that has ended.
  (again ?? elementOf(`${id}-title`)).focus({ preventScroll: true });
}

function hasSelection(body: HTMLElement): boolean {
  const selection = getSelection();
  return selection !== null && !selection.isCollapsed && selection.containsNode(body, true);
}
