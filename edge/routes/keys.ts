/**
 * `/v1/keys`: a tenant's API keys, for keys with the scope `admin`. A key never allows more than the key that creates or
 * rotates it.
 */
import * as v from "valibot";
import { AppError } from "../../shared/api/errors.ts";
import {
  ApiKey,
  ApiKeyDeletion,
  ApiKeyList,
  exceededLimitPath,
  KeyRequest,
  NewApiKey,
  KeyRotationRequest,
  type KeyGrant,
} from "../../shared/api/keys.ts";
import { field } from "../../shared/api/schema.ts";
import type { ApiKeyRecord } from "../../shared/keys/record.ts";
import type { AppContext } from "../http/context.ts";
import { jsonBody, route, type Route } from "../http/route.ts";

const KEY_ID = field(v.string(), "The id of an API key.", { examples: ["key_0198c2f4e5b07a31"] });

export function keyRoutes(): Route[] {
  return [
    route(
      {
        method: "POST",
        path: "/v1/keys",
        operationId: "createApiKey",
        tag: "Keys",
        summary: "Create an API key of the tenant",
        description:
          "The new key's scopes and limits must be within those of the key that creates it. If that key has limits of requests, tokens or jobs, they hold for both keys, and all others that it creates, together: the new key's requests also count for it, even after it is revoked.",
        access: { scope: "admin" },
        body: jsonBody(KeyRequest, { name: "laptop", scopes: ["jobs:read"] }),
        replies: {
          201: { description: "The key, which no later reply shows.", schema: NewApiKey },
        },
      },
      async (c, { body, json }) => {
        const { name, ...policy } = body;
        const { principal, stores } = c.var;
        requireWithin(policy, principal);
        const { id, key } = await stores.keys.create(name, principal.tenant, policy, principal);
        const record = await stores.keys.get(id);
        if (record === null) throw keyNotFound();
        c.header("Cache-Control", "no-store");
        return json(201, { ...toApiKey(record), key });
      },
    ),
    route(
      {
        method: "GET",
        path: "/v1/keys",
        operationId: "listApiKeys",
        tag: "Keys",
        summary: "List the tenant's API keys",
        description: "The list does not contain the secrets.",
        access: { scope: "admin" },
        replies: { 200: { description: "All keys, the oldest first.", schema: ApiKeyList } },
      },
      async (c, { json }) => {
        const records = await c.var.stores.keys.list(c.var.principal.tenant);
        return json(200, { object: "list", data: records.map(toApiKey) });
      },
    ),
    route(
      {
        method: "DELETE",
        path: "/v1/keys/{id}",
        operationId: "deleteApiKey",
        tag: "Keys",
        summary: "Revoke an API key",
        description:
          "Requests with the key are refused from now on, and its open streams and waits end within a second. Its jobs continue.",
        access: { scope: "admin" },
        params: { id: KEY_ID },
        replies: { 200: { description: "The key is revoked.", schema: ApiKeyDeletion } },
      },
      async (c, { params, json }) => {
        const { id } = await requireKey(c, params.id);
        await c.var.stores.keys.revoke(id);
        return json(200, { id, object: "api_key", deleted: true });
      },
    ),
    route(
      {
        method: "POST",
        path: "/v1/keys/{id}/rotate",
        operationId: "rotateApiKey",
        tag: "Keys",
        summary: "Replace the secret of an API key",
        description:
          "The key keeps its id, its scopes and its limits. When the overlap ends, so do open streams and waits of the older secret.",
        access: { scope: "admin" },
        params: { id: KEY_ID },
        body: jsonBody(KeyRotationRequest, { overlap: 3600 }),
        replies: {
          200: { description: "The new key, which no later reply shows.", schema: NewApiKey },
        },
      },
      async (c, { params, body: { overlap }, json }) => {
        const record = await requireKey(c, params.id);
        requireWithin(record, c.var.principal);
        const key = await c.var.stores.keys.rotate(record.id, overlap);
        if (key === null) throw keyNotFound();
        c.header("Cache-Control", "no-store");
        return json(200, { ...toApiKey(record), key });
      },
    ),
  ];
}

/** @throws AppError permission_denied */
function requireWithin(policy: KeyGrant, principal: ApiKeyRecord): void {
  const param = exceededLimitPath(policy, principal);
  if (param === null) return;
  const message = `${param} exceeds what the API key of this request allows`;
  throw new AppError("permission_denied", message, { param });
}

/** The tenant's key. One of another tenant is reported as not found. @throws AppError not_found */
async function requireKey(c: AppContext, id: string): Promise<ApiKeyRecord> {
  const record = await c.var.stores.keys.get(id);
  if (record === null || record.tenant !== c.var.principal.tenant) throw keyNotFound();
  return record;
}

function keyNotFound(): AppError {
  return new AppError("not_found", "There is no such API key");
}

/** The key as its tenant sees it. */
export function toApiKey(record: ApiKeyRecord): ApiKey {
  const { id, name, createdAtMs, scopes, limits, within } = record;
  return {
    id,
    object: "api_key",
    name,
    created_at: createdAtMs / 1000,
    scopes,
    limits,
    within: within.map((key) => key.id),
  };
}
