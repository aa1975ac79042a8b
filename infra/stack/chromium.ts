/** Starts a real Chromium, for tests of web pages. */
import { chromium, type Browser } from "playwright-core";
import { ensureProgram } from "./debian-package.ts";

/** Starts Chromium and installs it first if it is missing. @throws UserError if it cannot be installed */
export function startChromium(): Promise<Browser> {
  const remedy = "install Chromium; the tests of web pages need it";
  ensureProgram({ command: "chromium", debianPackage: "chromium", remedy }, console.log);
  return chromium.launch({
    executablePath: "/usr/bin/chromium",
    // Chromium's sandbox does not start as root. Without the last three options it calls Google's servers.
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-background-networking",
      "--disable-sync",
      "--no-first-run",
    ],
  });
}
