/** The OpenAPI document as a page: server-rendered, with nothing to load, so that it is readable wherever the edge is. */
import { html, raw } from "hono/html";

interface Schema {
  readonly $ref?: string;
  readonly type?: string | readonly string[];
  readonly description?: string;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly items?: Schema | false;
  readonly prefixItems?: readonly Schema[];
  readonly additionalProperties?: Schema | boolean;
  readonly anyOf?: readonly Schema[];
  readonly oneOf?: readonly Schema[];
  readonly const?: unknown;
  readonly enum?: readonly unknown[];
  readonly [keyword: string]: unknown;
}

interface Parameter {
  readonly name: string;
  readonly in: string;
  readonly required?: boolean;
  readonly description: string;
  readonly schema: Schema;
}

interface Media {
  readonly schema: Schema;
  readonly examples?: Readonly<Record<string, { readonly value: unknown }>>;
}
type Content = Readonly<Record<string, Media>>;

interface Reply {
  readonly description: string;
  readonly content?: Content;
}

interface Operation {
  readonly operationId: string;
  readonly tags: readonly string[];
  readonly summary: string;
  readonly description?: string;
  readonly security?: readonly object[];
  readonly parameters?: readonly { readonly $ref: string }[];
  readonly requestBody?: { readonly content: Content };
  readonly responses: Readonly<Record<string, Reply | { readonly $ref: string }>>;
}

export interface OpenApi {
  readonly info: { readonly title: string; readonly summary: string; readonly description: string };
  readonly tags: readonly { readonly name: string }[];
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: {
    readonly schemas: Readonly<Record<string, Schema>>;
    readonly parameters: Readonly<Record<string, Parameter>>;
    readonly responses: Readonly<Record<string, Reply>>;
  };
}

type Html = ReturnType<typeof html>;

const STYLE = `
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color-scheme: light dark }
code, pre { font: 14px/1.45 ui-monospace, monospace }
pre { overflow-x: auto; padding: .75rem; border: 1px solid #8885; border-radius: 4px }
section { margin: 2rem 0; border-top: 1px solid #8885 }
table { border-collapse: collapse; width: 100% }
td { vertical-align: top; padding: .2rem .8rem .2rem 0; border-top: 1px solid #8883 }
nav a { display: block }`;

/** @param document edge/openapi.json */
export function referencePage(document: unknown): Html {
  const { info, tags, paths, components } = document as OpenApi;
  const calls = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method, operation })),
  );
  const sections = tags.map(({ name }) => ({
    name,
    calls: calls.filter(({ operation }) => operation.tags.includes(name)),
  }));
  return html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width" />
        <title>${info.title} API</title>
        <style>
          ${raw(STYLE)}
        </style>
      </head>
      <body>
        <h1>${info.title} API</h1>
        <p>${info.summary} ${info.description}</p>
        <p>The same for machines: <a href="openapi.json">OpenAPI 3.1</a>.</p>
        <nav>
          ${sections.map(
            ({ name, calls }) =>
              html`<h3>${name}</h3>
                ${calls.map(
                  ({ path, method, operation }) =>
                    html`<a href="#${operation.operationId}"
                      ><code>${method.toUpperCase()} ${path}</code> ${operation.summary}</a
                    >`,
                )}`,
          )}
        </nav>
        ${calls.map(({ path, method, operation }) =>
          callSection(`${method.toUpperCase()} ${path}`, operation, components),
        )}
        <h2>Schemas</h2>
        ${Object.entries(components.schemas).map(
          ([name, schema]) =>
            html`<section id="${name}">
              <h3>${name}</h3>
              ${described(schema)} ${typeOf(schema)}
            </section>`,
        )}
      </body>
    </html>`;
}

function callSection(
  call: string,
  operation: Operation,
  { parameters, responses }: OpenApi["components"],
) {
  const { operationId, summary, description, security, requestBody } = operation;
  const given = (operation.parameters ?? []).map(({ $ref }) => parameters[nameOf($ref)]!);
  return html`<section id="${operationId}">
    <h3><code>${call}</code></h3>
    <p>${summary}. ${description ?? ""} ${security?.length === 0 ? "No API key is needed." : ""}</p>
    ${
      given.length > 0 &&
      html`<table>
        ${given.map(parameterRow)}
      </table>`
    }
    ${
      requestBody &&
      html`<h4>Body</h4>
        ${contentOf(requestBody.content)}`
    }
    <h4>Replies</h4>
    <table>
      ${Object.entries(operation.responses).map(([status, reply]) => {
        const { description, content = {} } =
          "$ref" in reply ? responses[nameOf(reply.$ref)]! : reply;
        return html`<tr>
          <td><code>${status}</code></td>
          <td>${prose(description)} ${contentOf(content)}</td>
        </tr>`;
      })}
    </table>
  </section>`;
}

function parameterRow({ name, in: where, required, description, schema }: Parameter): Html {
  return html`<tr>
    <td><code>${name}</code></td>
    <td>${where}${required ? ", required" : ""}</td>
    <td>${prose(description)} ${typeOf(schema)}</td>
  </tr>`;
}

function contentOf(content: Content): Html[] {
  return Object.entries(content).map(
    ([type, { schema, examples = {} }]) =>
      html`<div><code>${type}</code> ${typeOf(schema)} ${schema.$ref ? "" : described(schema)}</div>
        ${Object.values(examples).map(({ value }) => html`<pre>${JSON.stringify(value, null, 2)}</pre>`)}`,
  );
}

const described = ({ description }: Schema) =>
  description ? html`<p>${prose(description)}</p>` : "";

/** Code between backticks. */
const prose = (text: string) =>
  text.split("`").map((part, i) => (i % 2 === 0 ? part : html`<code>${part}</code>`));

/** What a value may be; an object as a table of its fields. */
function typeOf(schema: Schema): Html | string {
  const { $ref, properties, items, anyOf, oneOf } = schema;
  if ($ref !== undefined) return html`<a href="#${nameOf($ref)}">${nameOf($ref)}</a>`;
  if (properties !== undefined) return fieldsOf(schema);
  const branches = anyOf ?? oneOf;
  if (branches !== undefined) return joined(branches.map(typeOf), " or ");
  if (schema.const !== undefined) return html`<code>${JSON.stringify(schema.const)}</code>`;
  if (schema.enum !== undefined)
    return joined(
      schema.enum.map((value) => html`<code>${JSON.stringify(value)}</code>`),
      ", ",
    );
  const { prefixItems, additionalProperties } = schema;
  if (prefixItems !== undefined) return html`[${joined(prefixItems.map(typeOf), ", ")}]`;
  if (items) return html`array of ${typeOf(items)}${boundsOf(schema)}`;
  if (typeof additionalProperties === "object")
    return html`object of ${typeOf(additionalProperties)}${boundsOf(schema)}`;
  return `${[schema.type ?? "anything"].flat().join(" or ")}${boundsOf(schema)}`;
}

function fieldsOf({ properties = {}, required = [] }: Schema): Html {
  return html`<table>
    ${Object.entries(properties).map(
      ([name, field]) =>
        html`<tr>
          <td><code>${name}</code>${required.includes(name) ? "" : "?"}</td>
          <td>${typeOf(field)} ${described(field)}</td>
        </tr>`,
    )}
  </table>`;
}

/** Keywords that bound a value, as they are. */
const BOUNDS = [
  "minimum",
  "maximum",
  "exclusiveMinimum",
  "minLength",
  "maxLength",
  "minItems",
  "maxItems",
  "maxProperties",
  "pattern",
  "format",
  "default",
];

function boundsOf(schema: Schema): string {
  const bounds = BOUNDS.filter((name) => schema[name] !== undefined);
  return bounds.map((name) => `, ${name} ${String(schema[name])}`).join("");
}

function joined(parts: readonly (Html | string)[], between: string): Html {
  return html`${parts.map((part, i) => (i === 0 ? part : html`${between}${part}`))}`;
}

const nameOf = (pointer: string) => pointer.slice(pointer.lastIndexOf("/") + 1);
