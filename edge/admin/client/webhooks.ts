/** Webhook endpoints with their health, and the latest deliveries, which can be sent again. */
import type {
  WebhookDelivery,
  WebhookDeliveryPage,
  WebhookEndpoint,
  WebhookEndpointList,
} from "../../../shared/api/webhooks.ts";
import type { Reply } from "../../../shared/api/schema.ts";
import { integer, since } from "./format.ts";
import type { Part } from "./part.ts";
import { actionColumn, badge, code, table, type Column } from "./table.ts";
import type { Viewer } from "./viewer.ts";

/** Deliveries from which the health of endpoints is counted, and those of them that are shown. */
const COUNTED_MAX = 100;
const SHOWN_MAX = 20;

const deliveriesOf = (viewer: Viewer) =>
  viewer.get<Reply<typeof WebhookDeliveryPage>>(`/v1/webhook_deliveries?limit=${COUNTED_MAX}`);

export const endpointsPart: Part = {
  id: "endpoints",
  isShownTo: (viewer) => viewer.may("jobs:read"),
  load: async (viewer) => {
    const [{ data }, deliveries] = await Promise.all([
      viewer.get<Reply<typeof WebhookEndpointList>>("/v1/webhook_endpoints"),
      deliveriesOf(viewer),
    ]);
    const countOf = (endpoint: WebhookEndpoint, state: WebhookDelivery["state"]) =>
      integer(
        deliveries.data.filter((each) => each.endpoint === endpoint.id && each.state === state)
          .length,
      );
    const count = (state: WebhookDelivery["state"], name: string): Column<WebhookEndpoint> => ({
      name,
      cell: (endpoint) => countOf(endpoint, state),
      kind: "number",
    });
    const columns: Column<WebhookEndpoint>[] = [
      { name: "URL", cell: ({ url }) => url },
      { name: "Description", cell: ({ description }) => description, kind: "text" },
      { name: "State", cell: stateOf, kind: "text" },
      count("delivered", "Delivered"),
      count("pending", "Pending"),
      count("failed", "Failed"),
      ...actionColumn<WebhookEndpoint>(viewer.may("admin"), (endpoint) => enable(viewer, endpoint)),
    ];
    return [table("Webhook endpoints", columns, data, "There is no endpoint.")];
  },
};

function stateOf({ disabled, failing_since }: WebhookEndpoint) {
  if (disabled !== null) {
    return badge(`disabled for ${since(disabled.at)}: ${disabled.reason}`, "bad");
  }
  return failing_since === null
    ? badge("enabled", "good")
    : badge(`fails for ${since(failing_since)}`, "bad");
}

function enable(viewer: Viewer, { id, url, enabled }: WebhookEndpoint) {
  const word = enabled ? "Disable" : "Enable";
  return viewer.button(word, `endpoint-${id}`, {
    subject: url,
    question: enabled ? `Disable ${url}? Nothing is sent to it then.` : `Enable ${url}?`,
    path: `/v1/webhook_endpoints/${encodeURIComponent(id)}`,
    method: "PATCH",
    body: { enabled: !enabled },
    done: `${url} is ${enabled ? "disabled" : "enabled"}`,
  });
}

const STATE_KINDS = { delivered: "good", pending: "soft", failed: "bad" } as const;

export const deliveriesPart: Part = {
  id: "deliveries",
  isShownTo: (viewer) => viewer.may("jobs:read"),
  load: async (viewer) => {
    const { data } = await deliveriesOf(viewer);
    // Those that need somebody come first.
    const order = ["failed", "pending", "delivered"];
    const shown = data
      .toSorted((a, b) => order.indexOf(a.state) - order.indexOf(b.state))
      .slice(0, SHOWN_MAX);
    const replay = ({ id }: WebhookDelivery) =>
      viewer.button("Send again", `replay-${id}`, {
        subject: id,
        question: `Send ${id} again, now?`,
        path: `/v1/webhook_deliveries/${encodeURIComponent(id)}/replay`,
        done: `${id} is sent again`,
      });
    const columns: Column<WebhookDelivery>[] = [
      { name: "Delivery", cell: ({ id }) => code(id) },
      { name: "Type", cell: ({ type }) => type },
      { name: "URL", cell: ({ url }) => url },
      { name: "State", cell: ({ state }) => badge(state, STATE_KINDS[state]) },
      { name: "Attempts", cell: ({ attempts }) => integer(attempts.length), kind: "number" },
      { name: "Last answer", cell: lastAnswer, kind: "text" },
      { name: "Created", cell: ({ created_at }) => `${since(created_at)} ago` },
      ...actionColumn(viewer.may("jobs:write"), replay),
    ];
    return [table("Webhook deliveries", columns, shown, "Nothing was sent within a week.")];
  },
};

function lastAnswer({ attempts }: WebhookDelivery): string {
  const last = attempts.at(-1);
  return last === undefined ? "–" : (last.error ?? `status ${last.status}`);
}
