/** `npm run deploy`: puts the edge on Cloudflare, with the scripts of its pages in its bundle. */
import { spawnSync } from "node:child_process";
import { writePages } from "../pages/write.ts";

writePages();
const wrangler = spawnSync("wrangler", ["deploy", ...process.argv.slice(2)], { stdio: "inherit" });
process.exitCode = wrangler.status ?? 1;
