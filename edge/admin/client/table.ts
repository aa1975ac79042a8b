/** Tables, which scroll by themselves where the window is narrow. */
import { element } from "../../play/client/dom.ts";

type Child = Node | string;

export interface Column<Row> {
  readonly name: string;
  readonly cell: (row: Row) => Child | readonly Child[];
  /** Figures are aligned to the right; only texts may have several lines; actions stay in view when the table scrolls. */
  readonly kind?: "number" | "text" | "action";
}

/** The column of buttons; none if the viewer may not use them. */
export const actionColumn = <Row>(
  isAllowed: boolean,
  cell: Column<Row>["cell"],
): readonly Column<Row>[] => (isAllowed ? [{ name: "Action", cell, kind: "action" }] : []);

/**
 * A table with a row for each object; the first cell of a row is its header.
 * @param label names the table for screen readers
 * @param empty the text if there are no rows
 */
export function table<Row>(
  label: string,
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  empty: string,
): HTMLElement {
  if (rows.length === 0) return element("p", { class: "hint" }, empty);
  const attributes = ({ kind }: Column<Row>) => (kind === undefined ? {} : { class: kind });
  const head = columns.map((column) =>
    element("th", { scope: "col", ...attributes(column) }, column.name),
  );
  const body = rows.map((row) => {
    const cells = columns.map((column, i) => {
      const made = column.cell(row);
      const children = isList(made) ? made : [made];
      return i === 0
        ? element("th", { scope: "row", ...attributes(column) }, ...children)
        : element("td", attributes(column), ...children);
    });
    return element("tr", {}, ...cells);
  });
  return element(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": `${label} (table)` },
    element(
      "table",
      {},
      element("thead", {}, element("tr", {}, ...head)),
      element("tbody", {}, ...body),
    ),
  );
}

const isList = (made: Child | readonly Child[]): made is readonly Child[] => Array.isArray(made);

/** A word about a state, coloured by how good it is. */
export const badge = (text: string, kind: "good" | "bad" | "soft") =>
  element("span", { class: `badge ${kind}` }, text);

/** An id in the form in which it can be copied. */
export const code = (text: string) => element("code", {}, text);
