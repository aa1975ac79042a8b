/**
 * The formats of strings as regular expressions. Each allows only texts that validators accept; some rare valid texts are left out,
 * such as leap seconds, quoted email addresses and host names of more than 231 characters.
 */

const YEAR = "(?:[1-9]\\d{3}|0(?:[1-9]\\d{2}|0(?:[1-9]\\d|0[1-9])))";
const FOURTHS = "(?:0[48]|[2468][048]|[13579][26])";
const DATE = `(?:${YEAR}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\\d|30)|02-(?:0[1-9]|1\\d|2[0-8]))|(?:\\d{2}${FOURTHS}|${FOURTHS}00)-02-29)`;
const TIME =
  "(?:[01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(?:\\.\\d+)?(?:[Zz]|[+-](?:[01]\\d|2[0-3]):[0-5]\\d)";
const BYTE = "(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)";
const IPV4 = `${BYTE}(?:\\.${BYTE}){3}`;
const H16 = "[0-9A-Fa-f]{1,4}";
/** A pair of colons stands for one or more groups; `before` groups come before it. */
const COMPRESSED = [1, 2, 3, 4, 5, 6].map(
  (before) => `(?:${H16}:){${before}}(?::${H16}){1,${7 - before}}`,
);
const IPV6 = `(?:(?:${H16}:){7}${H16}|${COMPRESSED.join("|")}|(?:${H16}:){1,7}:|:(?:(?::${H16}){1,7}|:)|::(?:[Ff]{4}:)?${IPV4})`;
const HEX = "[0-9A-Fa-f]";
const UUID = `${HEX}{8}-${HEX}{4}-${HEX}{4}-${HEX}{4}-${HEX}{12}`;
const ALPHANUMERIC = "[A-Za-z0-9]";
const LABEL = `${ALPHANUMERIC}(?:[A-Za-z0-9-]{0,30}${ALPHANUMERIC})?`;
const HOSTNAME = `${LABEL}(?:\\.${LABEL}){0,6}`;
const ATOM = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+";
const DOMAIN = `(?:${ALPHANUMERIC}+(?:-+${ALPHANUMERIC}+)*\\.)+[A-Za-z]${ALPHANUMERIC}+`;
const EMAIL = `${ATOM}(?:\\.${ATOM})*@${DOMAIN}`;
const DURATION_DATE = "(?:\\d+D|\\d+M(?:\\d+D)?|\\d+Y(?:\\d+M(?:\\d+D)?)?)";
const DURATION_TIME = "T(?:\\d+S|\\d+M(?:\\d+S)?|\\d+H(?:\\d+M(?:\\d+S)?)?)";
const DURATION = `P(?:\\d+W|${DURATION_DATE}(?:${DURATION_TIME})?|${DURATION_TIME})`;
const escaped = (characters: string) => `(?:[${characters}]|%${HEX}{2})`;
const PATH_CHARACTER = escaped("A-Za-z0-9._~!$&'()*+,;=:@-");
const SEGMENT_CHARACTER = escaped("A-Za-z0-9._~!$&'()*+,;=@-");
const QUERY = `(?:\\?${escaped("A-Za-z0-9._~!$&'()*+,;=:@/?-")}*)?(?:#${escaped("A-Za-z0-9._~!$&'()*+,;=:@/?-")}*)?`;
const AUTHORITY = `//${escaped("A-Za-z0-9._~-")}*(?::\\d{1,5})?`;
const PATH = `(?:/${PATH_CHARACTER}*)*`;
const URI = `[A-Za-z][A-Za-z0-9+.-]*:(?:${AUTHORITY}${PATH}|/?${PATH_CHARACTER}+${PATH})${QUERY}`;
const RELATIVE = `(?:${AUTHORITY}${PATH}|/${PATH_CHARACTER}+${PATH}|/|${SEGMENT_CHARACTER}+${PATH})?${QUERY}`;
const URI_REFERENCE = `(?:${URI}|${RELATIVE})`;
const JSON_POINTER = "(?:/(?:[^/~]|~[01])*)*";

/** Anchored patterns by the name of the format. */
export const FORMATS: ReadonlyMap<string, string> = new Map(
  Object.entries({
    "date-time": `${DATE}[Tt]${TIME}`,
    date: DATE,
    time: TIME,
    duration: DURATION,
    email: EMAIL,
    "idn-email": EMAIL,
    hostname: HOSTNAME,
    "idn-hostname": HOSTNAME,
    ipv4: IPV4,
    ipv6: IPV6,
    uuid: UUID,
    uri: URI,
    "uri-reference": URI_REFERENCE,
    iri: URI,
    "iri-reference": URI_REFERENCE,
    "uri-template": URI_REFERENCE,
    "json-pointer": JSON_POINTER,
    "relative-json-pointer": `(?:0|[1-9]\\d*)(?:#|${JSON_POINTER})`,
  }).map(([name, source]) => [name, `^${source}$`]),
);

/** Formats of JSON Schema that cannot be held. Every other name that is not in FORMATS is an annotation. */
export const UNSUPPORTED_FORMATS: ReadonlySet<string> = new Set(["regex"]);

/** Bounds of integers, both included. */
export const INTEGER_FORMATS: ReadonlyMap<string, readonly [min: bigint, max: bigint]> = new Map([
  ["int32", [-(2n ** 31n), 2n ** 31n - 1n]],
  ["int64", [-(2n ** 63n), 2n ** 63n - 1n]],
]);

/** Whether a format has a meaning here; all others are annotations. */
export const isKnownFormat = (name: unknown) =>
  typeof name === "string" &&
  (FORMATS.has(name) || UNSUPPORTED_FORMATS.has(name) || INTEGER_FORMATS.has(name));
