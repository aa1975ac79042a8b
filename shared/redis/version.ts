/**
 * Versions of stored records. Processes of two releases run together during an upgrade. A process reads the records of its own
 * release and of the one before. It leaves a record of a newer release to the processes of that release, instead of ignoring
 * what it does not know.
 *
 * Each kind of record has a version, which is stored in it. It is raised with every change that an older process must not
 * ignore, such as a new field that changes what is done. Records from before there were versions have none and count as 0.
 */
import * as v from "valibot";

/** Version of job records. */
export const JOB_VERSION = 5;

/** A record was written by a newer release: it has a higher version, or a field that is not known. */
export class NewerRecord extends Error {
  override readonly name = "NewerRecord";
}

/** The schema of a record's field `version`. @param known the highest version that this release understands */
export const versionField = (known: number) =>
  v.optional(
    v.pipe(
      v.union([v.number(), v.pipe(v.string(), v.transform(Number))]),
      v.transform((version) => {
        if (version > known) throw new NewerRecord(`Version ${version}; ${known} is known`);
        return version;
      }),
    ),
    0,
  );

/**
 * Parses a record whose schema is a strict object.
 * @throws NewerRecord if it has a higher version or an unknown field; ValiError if a known field is wrong
 */
export function parseRecord<const Schema extends v.GenericSchema>(
  schema: Schema,
  stored: unknown,
): v.InferOutput<Schema> {
  const result = v.safeParse(schema, stored);
  if (result.success) return result.output;
  // An unknown field of a strict object is expected never to be there.
  const unknown = result.issues.find(({ type, expected }) => {
    return type === "strict_object" && expected === "never";
  });
  if (unknown) throw new NewerRecord(`Unknown field ${v.getDotPath(unknown) ?? ""}`);
  throw new v.ValiError(result.issues);
}
