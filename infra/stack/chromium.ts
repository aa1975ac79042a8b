/** Starts a real Chromium, for tests of web pages. */
import { chromium, type Browser } from "playwright-core";
import { installProblem } from "../debian-package.mjs";
import { UserError } from "./user-error.ts";

/** Starts Chromium and installs it first if it is missing. @throws UserError if it cannot be installed */
export function startChromium(): Promise<Browser> {
  const remedy = "install Chromium in another way; the tests of web pages need it";
  const program = { command: "chromium", debianPackage: "chromium", remedy };
  const problem = installProblem(program, console.log);
  if (problem !== null) throw new UserError(problem);
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
