/**
 * `npm run edge`: the self-hosted edge (edge/server/main.ts), after the scripts of its pages are written if they are not up
 * to date. A container has them already and starts edge/server/main.ts itself.
 */
import { writePages } from "../pages/write.ts";

writePages();
await import("../../edge/server/main.ts");
