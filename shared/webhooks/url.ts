/**
 * The rules for URLs and addresses that webhooks may be sent to. Every API key can name URLs, and workers send requests to
 * them: these URLs must not lead to services that are reachable only inside the operator's network (SSRF). The same rule checks
 * a URL when it is set, and its address when a worker connects to it.
 */
import ipaddr from "ipaddr.js";
import * as v from "valibot";

type Address = ipaddr.IPv4 | ipaddr.IPv6;
/** Ranges of addresses: [first address, prefix length in bits]. */
export type AddressRanges = readonly (readonly [Address, number])[];

/** All public IPv6 addresses. Addresses that embed an IPv4 address are outside: mapped, compatible, NAT64. */
const IPV6_UNICAST = ipaddr.IPv6.parseCIDR("2000::/3");
/** A public address, but inside Azure it belongs to the service that gives a machine its credentials. */
const AZURE_METADATA = "168.63.129.16";
/** Lower ports belong to other services than web servers: mail, SSH, DNS. */
const UNPRIVILEGED_PORT = 1024;

/** A comma-separated list of addresses and ranges (`127.0.0.1,10.1.0.0/16`), as in environment variables. */
export const AddressList = v.pipe(
  v.string(),
  v.transform((text) => text.split(",").map((entry) => entry.trim())),
  v.transform((entries) => entries.filter((entry) => entry !== "")),
  v.check(
    (entries) => entries.every((entry) => ipaddr.isValid(entry) || ipaddr.isValidCIDR(entry)),
    "Expected addresses or ranges such as 127.0.0.1,10.1.0.0/16",
  ),
  v.transform((entries): AddressRanges => entries.map(parseRange)),
);

/** Whether a webhook may be sent to the address. @param allowed ranges that are allowed although they are not public */
export function isAllowedAddress(address: string, allowed: AddressRanges): boolean {
  const parsed = ipaddr.parse(address);
  return isPublic(parsed) || allowed.some((range) => isWithin(parsed, range));
}

/**
 * Why no webhook may be sent to an http(s) URL, as the end of a sentence; null if it may be. A host name passes: its address
 * is checked when a worker connects to it.
 */
export function urlProblem(text: string, allowed: AddressRanges): string | null {
  const { username, password, port, hostname } = new URL(text);
  if (username !== "" || password !== "") return "must not contain a user name or a password";
  if (port !== "" && port !== "80" && port !== "443" && Number(port) < UNPRIVILEGED_PORT) {
    return `must use port 80, 443, or a port from ${UNPRIVILEGED_PORT} up`;
  }
  const address = literalAddress(hostname);
  if (address === null || isAllowedAddress(address, allowed)) return null;
  return "must not point to a private, local or reserved address";
}

/** The address of a host that is an address or localhost; null for a name that needs DNS. */
function literalAddress(hostname: string): string | null {
  const host = hostname.replace(/^\[(.*)\]$/, "$1").replace(/\.$/, "");
  if (host === "localhost" || host.endsWith(".localhost")) return "127.0.0.1";
  return ipaddr.isValid(host) ? host : null;
}

function isPublic(address: Address): boolean {
  if (address.range() !== "unicast") return false;
  return address.kind() === "ipv4"
    ? address.toString() !== AZURE_METADATA
    : isWithin(address, IPV6_UNICAST);
}

function isWithin(address: Address, [first, bits]: readonly [Address, number]): boolean {
  return address.kind() === first.kind() && address.match(first, bits);
}

function parseRange(entry: string): readonly [Address, number] {
  if (ipaddr.isValidCIDR(entry)) return ipaddr.parseCIDR(entry);
  const address = ipaddr.parse(entry);
  return [address, address.kind() === "ipv4" ? 32 : 128];
}
