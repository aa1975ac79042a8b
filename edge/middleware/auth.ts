/** Authentication: finds the API key of a request, by its bearer key, by `x-api-key`, or by the ticket in its URL. Redis has only their hashes. */
import { createMiddleware } from "hono/factory";
import { hashApiKey, shardOf } from "../../shared/keys/secrets.ts";
import { sha256Hex } from "../../shared/ids.ts";
import { AppError } from "../../shared/api/errors.ts";
import type { AppContext, AppEnv } from "../http/context.ts";
import type { RequestStores } from "../redis/stores.ts";

/** A token as in RFC 6750, of limited length, so that no huge header is hashed. */
const BEARER = /^Bearer +([\w.~+/-]{1,256}=*) *$/i;
const API_KEY = /^[\w.~+/-]{1,256}=*$/;
const TICKET = /^tk\d{0,2}_[\w-]{43}$/;

/** @throws AppError invalid_api_key */
export const authenticate = createMiddleware<AppEnv>(async (c, next) => {
  const authorization = c.req.header("authorization");
  const ticket = c.req.query("ticket");
  if (authorization === undefined && ticket !== undefined) await authenticateTicket(c, ticket);
  else await authenticateKey(c, BEARER.exec(authorization ?? "")?.[1] ?? keyHeader(c));
  await next();
});

/** From here on the request uses the shard of its tenant. @returns null if there is no such shard */
function useShard(c: AppContext, secret = ""): RequestStores | null {
  const stores = c.var.shards.of(shardOf(secret));
  if (stores !== null) c.set("stores", stores);
  return stores;
}

/** The key as Anthropic's clients send it. */
function keyHeader(c: AppContext): string | undefined {
  return API_KEY.exec(c.req.header("x-api-key") ?? "")?.[0];
}

async function authenticateKey(c: AppContext, key: string | undefined): Promise<void> {
  const stores = useShard(c, key);
  const hash = key && (await hashApiKey(key));
  const principal = hash && stores && (await stores.keys.authenticate(hash));
  if (!principal) {
    const message = key
      ? "This API key is not known"
      : "Expected an API key: `Authorization: Bearer …`, or `x-api-key: …`";
    throw new AppError("invalid_api_key", message);
  }
  c.set("principal", principal);
  c.set("secretHash", hash);
}

/** A ticket stands for the API key that made it, within the limits that `authorize` sets. */
async function authenticateTicket(c: AppContext, token: string): Promise<void> {
  const stores = TICKET.test(token) ? useShard(c, token) : null;
  const ticket = stores && (await stores.tickets.get(await sha256Hex(token)));
  const principal = ticket && (await stores.keys.get(ticket.keyId));
  if (!ticket || !principal) {
    throw new AppError("invalid_api_key", "This ticket is not known, or has expired");
  }
  c.set("principal", principal);
  c.set("secretHash", null);
  c.set("ticket", ticket);
}
