/** The members of stored values: one that is not known is from a newer release, and must not be ignored. */
import { NewerRecord } from "../redis/version.ts";

/** The members of a type, all of them: the compiler reports one that is missing. */
export type Members<T> = Readonly<Record<keyof T, true>>;

/** @throws NewerRecord if the value has a member that is not known */
export function requireMembers(known: Readonly<Record<string, true>>, value: object): void {
  const unknown = Object.keys(value).find((name) => !Object.hasOwn(known, name));
  if (unknown !== undefined) throw new NewerRecord(`Unknown field ${unknown} of a job`);
}
