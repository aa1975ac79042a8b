/** Separates the prefix caches of tenants at a server of a base. */
import { createHash } from "node:crypto";

/** A tenant's salt: the same on every worker, and without the tenant's name. */
export function tenantSalt(tenant: string | undefined): string {
  const hash = createHash("sha256").update(`prefix cache of ${tenant ?? ""}`);
  return hash.digest("base64url").slice(0, 22);
}
