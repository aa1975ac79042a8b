/** The playground's start: it connects the parts of the page. */
import { forgetKey, replaceFragment, savedKey, saveKey, takeFragment } from "./access.ts";
import { Api, ApiError } from "./api.ts";
import { BlindComparison } from "./blind.ts";
import { CodeView } from "./code-view.ts";
import { Comparison } from "./comparison.ts";
import { byId, copyText, input, part } from "./dom.ts";
import { RecordView } from "./record-view.ts";
import { SettingsForm } from "./settings-form.ts";
import { fromFragment, fromRequest, toFragment, type Settings } from "./settings.ts";
import { alphasOf, Sweep } from "./sweep.ts";

/** A change of these settings runs the steered answer again, when nothing has been changed for so long. */
const STEERING: readonly (keyof Settings)[] = [
  "alpha",
  "schedule",
  "pairs",
  "kl_budget",
  "base_nucleus",
  "fallback",
];
const REST_MS = 250;
const NO_KEY = "First enter an API key.";

let api: Api | null = null;
let steeringTimer: ReturnType<typeof setTimeout> | undefined;

const form = new SettingsForm(onChange);
const record = new RecordView();
const comparison = new Comparison(requireApi, showRecord);
const code = new CodeView(() => form.read());
const sweep = new Sweep();
const blind = new BlindComparison();

const { parameters, ticket, hasKey } = takeFragment();
const linked = fromFragment(parameters);
const linkedJob = parameters.get("job");
form.write(linked);
const key = savedKey();
if (ticket !== null && linkedJob !== null) void comparison.watch(new Api({ ticket }), linkedJob);
if (key !== null) void open(key);
else if (ticket === null) showAccess("");

part("settings").addEventListener("submit", (event) => {
  event.preventDefault();
  withSettings((settings) => comparison.runBoth(settings));
});
byId("sweep", HTMLButtonElement).addEventListener("click", () => {
  withSettings((settings) => sweep.run(requireApi(), settings, alphasOf(form.alphaBounds)));
});
byId("blind", HTMLButtonElement).addEventListener("click", () => {
  withSettings((settings) => blind.run(requireApi(), settings));
});
byId("link", HTMLButtonElement).addEventListener("click", () => {
  withSettings(async () => {
    const place = (await copyText(location.href)) ? "copied" : "in the address bar";
    announce(`The link is ${place}: it has the settings, not the key`);
  });
});
byId("use-key", HTMLButtonElement).addEventListener("click", () => {
  void useKey(input("key").value.trim(), {});
});
// Another link was opened in the same tab.
addEventListener("hashchange", () => location.reload());

/** Opens the link's settings, or its job with the settings of its request. */
async function open(key: string): Promise<void> {
  await useKey(key, linked);
  if (api === null) return;
  if (linkedJob !== null) {
    if (ticket === null) void comparison.watch(api, linkedJob);
    void record.show(api, linkedJob);
    // Without `store` the request is not kept: then the form stays as it is.
    const sent = await api.sentRequest(linkedJob).catch(() => null);
    form.write(fromRequest(sent));
    code.update();
    // Only with a key of its own, so that no link spends the key of this tab.
  } else if (hasKey && parameters.get("run") === "1")
    withSettings((settings) => comparison.runBoth(settings));
}

function onChange(name: keyof Settings): void {
  code.update();
  clearTimeout(steeringTimer);
  if (!STEERING.includes(name) || !comparison.hasAnswer) return;
  steeringTimer = setTimeout(() => {
    withSettings((settings) => comparison.runSteered(settings));
  }, REST_MS);
}

function showRecord(jobId: string): void {
  if (api === null) showAccess(NO_KEY);
  else void record.show(api, jobId);
}

function withSettings(action: (settings: Settings) => Promise<void>): void {
  if (api === null) return showAccess(NO_KEY);
  let settings: Settings;
  try {
    settings = form.read();
  } catch (error) {
    return showNotice(messageOf(error));
  }
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
