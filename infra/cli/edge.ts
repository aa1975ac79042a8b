/**
 * `npm run edge`: the self-hosted edge (edge/server/main.ts), after the script of the API reference is written if it is not up
 * to date. A container has that script already and starts edge/server/main.ts itself.
 */
import { writeReferenceUi } from "../openapi/reference-ui.ts";

writeReferenceUi();
await import("../../edge/server/main.ts");
