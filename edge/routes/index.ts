/** All routes of the edge, in the order of the API document. */
import type { Route } from "../http/route.ts";
import { batchRoutes } from "./batches.ts";
import { chatRoutes } from "./chat.ts";
import { completionRoutes } from "./completions.ts";
import { fileRoutes } from "./files.ts";
import { healthRoutes } from "./health.ts";
import { jobCollectionRoutes } from "./job-collection.ts";
import { jobRequestRoutes } from "./job-requests.ts";
import { jobRoutes } from "./jobs.ts";
import { keyRoutes } from "./keys.ts";
import { messageRoutes } from "./messages.ts";
import { modelRoutes } from "./models.ts";
import { documentRoutes } from "./openapi.ts";
import { pageRoutes } from "./pages.ts";
import { operatorFleetRoutes } from "./operator-fleet.ts";
import { operatorRoutes } from "./operator.ts";
import { responseRoutes } from "./responses.ts";
import { scoreRoutes } from "./score.ts";
import { storedChatRoutes } from "./stored-chats.ts";
import type { RouteSettings } from "./settings.ts";
import { usageRoutes } from "./usage.ts";
import { tokenizerRoutes } from "./tokenizers.ts";
import { ticketRoutes } from "./tickets.ts";
import { deliveryRoutes } from "./webhook-deliveries.ts";
import { endpointRoutes } from "./webhook-endpoints.ts";
import { inboxRoutes } from "./webhook-inbox.ts";
import { webhookKeyRoutes } from "./webhook-keys.ts";

export function allRoutes(settings: RouteSettings): readonly Route[] {
  return [
    ...jobCollectionRoutes(),
    ...jobRoutes(settings),
    ...jobRequestRoutes(settings),
    ...ticketRoutes(),
    ...scoreRoutes(settings),
    ...storedChatRoutes(),
    ...chatRoutes(settings),
    ...completionRoutes(settings),
    ...responseRoutes(settings),
    ...messageRoutes(settings),
    ...modelRoutes(),
    ...tokenizerRoutes(),
    ...fileRoutes(),
    ...batchRoutes(),
    ...endpointRoutes(),
    ...deliveryRoutes(),
    ...inboxRoutes(settings),
    ...webhookKeyRoutes(),
    ...keyRoutes(),
    ...usageRoutes(),
    ...operatorRoutes(),
    ...operatorFleetRoutes(),
    ...healthRoutes(settings),
    ...documentRoutes(settings),
    ...pageRoutes(settings),
  ];
}
