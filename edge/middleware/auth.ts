/** From the bearer key, or the ticket in a URL, to the principal. Only their hashes are known to the backend. */
import { createMiddleware } from "hono/factory";
import { hashApiKey, sha256Hex } from "../../shared/api-key.ts";
import { AppError } from "../../shared/errors.ts";
import type { AppContext, AppEnv } from "../context.ts";

/** A token as RFC 6750 spells it, bounded, so that no megabyte of header is hashed. */
const BEARER = /^Bearer +([\w.~+/-]{1,256}=*) *$/i;
const TICKET = /^tk_[\w-]{43}$/;

/** @throws AppError invalid_api_key */
export const authenticate = createMiddleware<AppEnv>(async (c, next) => {
  const authorization = c.req.header("authorization");
  const ticket = c.req.query("ticket");
  if (authorization === undefined && ticket !== undefined) await enterByTicket(c, ticket);
  else await enterByKey(c, authorization ?? "");
  await next();
});

async function enterByKey(c: AppContext, authorization: string): Promise<void> {
  const key = BEARER.exec(authorization)?.[1];
  const principal = key && (await c.var.backend.authenticate(await hashApiKey(key)));
  if (!principal) {
    const given = key
      ? "This API key is not known"
      : "Expected an API key: `Authorization: Bearer …`";
    throw refused(c, given);
  }
  c.set("principal", principal);
}

/** A ticket speaks for the key that made it, as far as `authorize` lets it. */
async function enterByTicket(c: AppContext, token: string): Promise<void> {
  const { backend } = c.var;
  const ticket = TICKET.test(token) ? await backend.ticket(await sha256Hex(token)) : null;
  const principal = ticket && (await backend.keys((keys) => keys.read(ticket.keyId)));
  if (!ticket || !principal) throw refused(c, "This ticket is not known, or has expired");
  c.set("principal", principal);
  c.set("ticket", ticket);
}

function refused(c: AppContext, message: string): AppError {
  c.header("WWW-Authenticate", 'Bearer realm="trimtab"');
  return new AppError("invalid_api_key", message);
}
