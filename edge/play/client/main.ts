/** The playground's start: it connects the parts of the page. */
import { forgetKey, replaceFragment, savedKey, saveKey, takeFragment } from "./access.ts";
import { Api, ApiError } from "./api.ts";
import { BlindComparison } from "./blind.ts";
import { CodeView } from "./code-view.ts";
import { Comparison } from "./comparison.ts";
import { byId, copyText, input, part } from "./dom.ts";
import { SettingsForm } from "./settings-form.ts";
import { fromFragment, toFragment, type Settings } from "./settings.ts";
import { alphasOf, Sweep } from "./sweep.ts";

/** A moved slider runs the answer again when it has rested so long. */
const ALPHA_REST_MS = 250;

let api: Api | null = null;
let alphaTimer: ReturnType<typeof setTimeout> | undefined;

const form = new SettingsForm(onChange);
const comparison = new Comparison(requireApi);
const code = new CodeView(() => form.read());
const sweep = new Sweep();
const blind = new BlindComparison();

const { parameters, ticket } = takeFragment();
const linked = fromFragment(parameters);
const linkedJob = parameters.get("job");
form.write(linked);
const key = savedKey();
if (ticket !== null && linkedJob !== null) void comparison.watch(new Api({ ticket }), linkedJob);
else if (key !== null && linkedJob !== null) void comparison.watch(new Api({ key }), linkedJob);
if (key !== null) void useKey(key, linked);
else if (ticket === null) showAccess("");

part("settings").addEventListener("submit", (event) => {
  event.preventDefault();
  withSettings((settings) => comparison.runBoth(settings));
});
byId("sweep", HTMLButtonElement).addEventListener("click", () => {
  withSettings((settings) => sweep.run(requireApi(), settings, alphasOf(form.alphaRange)));
});
byId("blind", HTMLButtonElement).addEventListener("click", () => {
  withSettings((settings) => blind.run(requireApi(), settings));
});
byId("link", HTMLButtonElement).addEventListener("click", () => {
  replaceFragment(toFragment(form.read()));
  void copyText(location.href).then((isCopied) => {
    const place = isCopied ? "copied" : "in the address bar";
    announce(`The link is ${place}: it has the settings, not the key`);
  });
});
byId("use-key", HTMLButtonElement).addEventListener("click", () => {
  void useKey(input("key").value.trim(), {});
});
// Another link was opened in the same tab.
addEventListener("hashchange", () => location.reload());

function onChange(name: keyof Settings): void {
  code.update();
  clearTimeout(alphaTimer);
  if (name !== "alpha" || !comparison.hasAnswer) return;
  alphaTimer = setTimeout(() => {
    withSettings((settings) => comparison.runSteered(settings));
  }, ALPHA_REST_MS);
}

function withSettings(action: (settings: Settings) => Promise<void>): void {
  if (api === null) return showAccess("First enter an API key.");
  const settings = form.read();
  if (settings.prompt.trim() === "") return showNotice("prompt: enter a text");
  showNotice("");
  replaceFragment(toFragment(settings));
  code.update();
  action(settings).catch((error: unknown) => showNotice(messageOf(error)));
}

/** Reads what the key may do. @param linked settings that need the list of models */
async function useKey(key: string, linked: Partial<Settings>): Promise<void> {
  const tried = new Api({ key });
  try {
    const [models, policy] = await Promise.all([tried.models(), tried.key()]);
    api = tried;
    saveKey(key);
    form.setModels(models, policy);
    form.write(linked);
    part("access").hidden = true;
    showNotice(models.length === 0 ? "No worker serves a model: start one, then reload." : "");
    code.update();
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) forgetKey();
    showAccess(messageOf(error));
  }
}

function showAccess(problem: string): void {
  part("access").hidden = false;
  showNotice(problem);
  input("key").focus();
}

function showNotice(text: string): void {
  part("notice").textContent = text;
  part("notice").hidden = text === "";
}

function announce(text: string): void {
  part("announcement").textContent = text;
}

function requireApi(): Api {
  if (api === null) throw new Error("There is no API key");
  return api;
}

const messageOf = (error: unknown) =>
  error instanceof Error ? error.message : "An unknown error happened";
