/** The start of the operator's page: it takes the API key, and reads the parts that the key may see every few seconds. */
import { forgetKey, savedKey, saveKey, takeFragment } from "../../play/client/access.ts";
import { ApiError } from "../../play/client/api.ts";
import { byId, input, part } from "../../play/client/dom.ts";
import { activityPart } from "./activity.ts";
import { modelsPart, workersPart } from "./fleet.ts";
import { failuresPart, jobsPart } from "./jobs.ts";
import { keysPart, tenantsPart } from "./keys.ts";
import { refresh, type Part } from "./part.ts";
import { queuesPart } from "./queues.ts";
import { Viewer } from "./viewer.ts";
import { deliveriesPart, endpointsPart } from "./webhooks.ts";

/** Pause between two readings. */
const REFRESH_MS = 5_000;

const PARTS: readonly Part[] = [
  activityPart,
  queuesPart,
  jobsPart,
  workersPart,
  modelsPart,
  failuresPart,
  endpointsPart,
  deliveriesPart,
  keysPart,
  tenantsPart,
];

let viewer: Viewer | null = null;
let timer: ReturnType<typeof setTimeout> | undefined;
/** The readings that run; a later one waits for it. */
let reading: Promise<void> = Promise.resolve();
let isPaused = false;

// An address with another key was opened in the same tab.
addEventListener("hashchange", () => location.reload());
takeFragment();
const key = savedKey();
if (key === null) askForKey("");
else void useKey(key);

byId("access", HTMLFormElement).addEventListener("submit", (event) => {
  event.preventDefault();
  void useKey(input("key").value.trim());
});
const toggle = byId("refresh", HTMLButtonElement);
toggle.addEventListener("click", () => {
  isPaused = !isPaused;
  toggle.textContent = isPaused ? "Continue updates" : "Pause updates";
  if (!isPaused) read();
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && !isPaused) read();
});

async function useKey(key: string): Promise<void> {
  try {
    const opened = await Viewer.open(key, read);
    const { name, tenant, scopes } = opened.key;
    if (!opened.may("operator") && !opened.may("admin")) {
      return askForKey("This key has neither the scope operator nor admin.");
    }
    viewer = opened;
    saveKey(key);
    input("key").value = "";
    part("access").hidden = true;
    part("notice").textContent = "";
    part("viewer").textContent = `Key ${name} of tenant ${tenant}: ${scopes.join(", ")}`;
    toggle.hidden = false;
    read();
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) forgetKey();
    askForKey(error instanceof Error ? error.message : "The key could not be used");
  }
}

/** Reads all parts now, and again after a pause. */
function read(): void {
  clearTimeout(timer);
  reading = reading.then(readAll);
}

async function readAll(): Promise<void> {
  if (viewer === null) return;
  const current = viewer;
  await Promise.all(PARTS.map((each) => refresh(each, current)));
  part("updated").textContent = `Updated ${new Date().toLocaleTimeString()}`;
  clearTimeout(timer);
  if (isPaused || document.hidden) return;
  timer = setTimeout(read, REFRESH_MS);
}

function askForKey(problem: string): void {
  viewer = null;
  for (const { id } of PARTS) part(id).hidden = true;
  part("access").hidden = false;
  part("notice").textContent = problem;
  input("key").focus();
}
