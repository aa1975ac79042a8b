/** Building the page's elements. Texts become text nodes, so no text of a model, a prompt or an error is read as HTML. */

type Attributes = Readonly<Record<string, string | number | boolean>>;
type Child = Node | string;

/** Makes an element. An attribute that is true has no value, one that is false is left out. */
export function element<Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  attributes: Attributes = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[Name] {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) {
    if (value !== false) made.setAttribute(attribute, value === true ? "" : String(value));
  }
  made.append(...children);
  return made;
}

export function button(label: string, onClick: () => void, attributes: Attributes = {}) {
  const made = element("button", { type: "button", ...attributes }, label);
  made.addEventListener("click", onClick);
  return made;
}

/** An element of the page by its id. @throws Error if the page has none of this type */
export function byId<T extends HTMLElement>(id: string, type: new () => T): T {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new Error(`The page has no ${type.name} #${id}`);
  return found;
}

export const part = (id: string) => byId(id, HTMLElement);
export const input = (id: string) => byId(id, HTMLInputElement);

/** The page's policy allows no style attribute in HTML; properties may be set by script. */
export function setVariable(target: HTMLElement, name: `--${string}`, value: number): void {
  target.style.setProperty(name, String(value));
}

export const percent = (share: number) => `${(100 * share).toFixed(2)}%`;

/** @returns false where the browser does not allow it, as on pages without HTTPS */
export async function copyText(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}
