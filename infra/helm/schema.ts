/** Makes values.schema.json from values.yaml: types from the defaults, descriptions from the comments. */
import { isMap, isScalar, isSeq, parseDocument, type Pair, type YAMLMap } from "yaml";

interface Schema {
  type?: string | readonly string[];
  description?: string;
  enum?: readonly string[];
  minimum?: number;
  maximum?: number;
  items?: Schema;
  minItems?: number;
  properties?: Record<string, Schema>;
  additionalProperties?: boolean | Schema;
}

/** A rule of a NetworkPolicy without ports allows all of them. */
const PORTS: Schema = {
  type: "array",
  items: { type: "integer", minimum: 1, maximum: 65_535 },
  minItems: 1,
};

/** Maps whose names the user chooses. */
const FREE = new Set(["resources", "labels"]);

const ENUMS: Readonly<Record<string, readonly string[]>> = {
  pullPolicy: ["Always", "IfNotPresent", "Never"],
  modelSource: ["none", "pvc", "image", "hub"],
  executionProvider: ["cpu", "cuda", "webgpu"],
  type: ["ClusterIP", "NodePort", "LoadBalancer"],
};

/** Of values that are the same everywhere in Kubernetes and have no comment where they stand. */
const COMMON: Readonly<Record<string, string>> = {
  affinity: "Affinity of the pods.",
  annotations: "Annotations of the object.",
  className: "Class of the Ingress.",
  claimName: "Name of an existing PersistentVolumeClaim.",
  enabled: "Whether these objects are made.",
  env: "Further environment variables.",
  host: "Host name of the API.",
  hostnames: "Host names of the route.",
  image: "The image of the containers.",
  interval: "Time between two scrapes.",
  labels: "Labels of the object.",
  maxReplicas: "The most pods.",
  minReplicas: "The fewest pods.",
  nodeSelector: "Labels of the nodes for the pods.",
  podAnnotations: "Annotations of the pods.",
  port: "Port of the Service.",
  pullPolicy: "When the image is pulled.",
  readOnly: "Whether the volume is mounted read-only.",
  reference: "Image whose files are the volume.",
  replicas: "Count of pods.",
  repository: "Repository of the image.",
  resources: "Requests and limits of the container.",
  tag: "Tag of the image; empty: the chart's appVersion.",
  tolerations: "Tolerations of the pods.",
  type: "Type of the Service.",
};

/** @throws Error if a value has no description */
export function valuesSchema(valuesYaml: string): object {
  const values = parseDocument(valuesYaml).contents;
  if (!isMap(values)) throw new Error("values.yaml holds no map");
  const schema = mapSchema(values, "");
  const properties = schema.properties!;
  // Null removes a pool of the defaults.
  properties["pools"]!.additionalProperties = {
    ...properties["poolDefaults"]!,
    type: ["object", "null"],
  };
  // Helm passes it to charts that another chart depends on.
  properties["global"] = { type: "object", description: "Values of a parent chart; not used." };
  return { $schema: "http://json-schema.org/draft-07/schema#", ...schema };
}

function mapSchema(map: YAMLMap, path: string): Schema {
  const name = path.split(".").at(-1)!;
  if (map.items.length === 0 || FREE.has(name)) return { type: "object" };
  if (path === ".pools") return { type: "object", additionalProperties: false };
  const properties = map.items.map((pair, i) => {
    const key = String(pair.key);
    // The comment before the first pair of a map belongs to the map.
    const first = i === 0 ? map.commentBefore : undefined;
    return [key, propertySchema(pair, `${path}.${key}`, first)] as const;
  });
  return {
    type: "object",
    properties: Object.fromEntries(properties),
    additionalProperties: false,
  };
}

function propertySchema({ key, value }: Pair, path: string, commentBefore?: string | null): Schema {
  const name = String(isScalar(key) ? key.value : key);
  const comment = (isScalar(key) ? key.commentBefore : undefined) ?? commentBefore ?? undefined;
  // A blank line separates the comment of a file or section.
  const text = comment
    ?.split("\n\n")
    .at(-1)
    ?.replaceAll(/\s*\n\s*/g, " ")
    .trim();
  const nested = isMap(value) && value.items.length > 0 ? `Settings of ${name}.` : undefined;
  const description = text ?? COMMON[name] ?? nested;
  if (description === undefined) throw new Error(`${path.slice(1)}: has no comment`);
  return { description, ...typeOf(name, value, path) };
}

function typeOf(name: string, value: unknown, path: string): Schema {
  if (isMap(value)) return mapSchema(value, path);
  if (isSeq(value)) return name === "redisPorts" ? PORTS : { type: "array" };
  const scalar = isScalar(value) ? value.value : value;
  if (name === "minAvailable" || name === "maxUnavailable") return { type: ["integer", "string"] };
  if (typeof scalar === "number") return { type: "integer", minimum: 0 };
  if (typeof scalar === "boolean") return { type: "boolean" };
  const names = ENUMS[name];
  return names === undefined ? { type: "string" } : { enum: names };
}
