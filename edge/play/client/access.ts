/** The API key of this tab: typed in, or from the address's fragment, which browsers do not send to the server. */

const STORAGE_NAME = "trimtab.key";

/** Takes the key out of the fragment, so that no copied address contains it. @returns the fragment's other parameters */
export function takeFragment(): URLSearchParams {
  const parameters = new URLSearchParams(location.hash.slice(1));
  const key = parameters.get("key");
  if (key !== null) {
    saveKey(key);
    parameters.delete("key");
    replaceFragment(parameters.toString());
  }
  return parameters;
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
