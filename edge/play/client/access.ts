/** The API key of this tab: typed in, or from the address's fragment, which browsers do not send to the server. */

const STORAGE_NAME = "trimtab.key";

/**
 * Takes key and ticket out of the fragment, so that no copied address contains them.
 * @returns the ticket, the fragment's other parameters, and whether a key was among them
 */
export function takeFragment() {
  const parameters = new URLSearchParams(location.hash.slice(1));
  const key = parameters.get("key");
  const ticket = parameters.get("ticket");
  if (key !== null) saveKey(key);
  parameters.delete("key");
  parameters.delete("ticket");
  replaceFragment(parameters.toString());
  return { parameters, ticket, hasKey: key !== null };
}

export function replaceFragment(fragment: string): void {
  const address = location.pathname + location.search;
  history.replaceState(null, "", fragment === "" ? address : `${address}#${fragment}`);
}

/** Session storage belongs to this tab and is deleted with it. */
export function saveKey(key: string): void {
  sessionStorage.setItem(STORAGE_NAME, key);
}

export function savedKey(): string | null {
  return sessionStorage.getItem(STORAGE_NAME);
}

export function forgetKey(): void {
  sessionStorage.removeItem(STORAGE_NAME);
}
