/** `npm run deploy`: puts the edge on Cloudflare, with the script of the API reference in its bundle. */
import { spawnSync } from "node:child_process";
import { writeReferenceUi } from "../openapi/reference-ui.ts";

writeReferenceUi();
const wrangler = spawnSync("wrangler", ["deploy", ...process.argv.slice(2)], { stdio: "inherit" });
process.exitCode = wrangler.status ?? 1;
