/**
 * Where webhooks may go. Anybody with a key names URLs that our servers then call, so they must not reach what only our
 * servers can: the same rule judges the URL when it is given and the address when it is connected to.
 */
import ipaddr from "ipaddr.js";
import * as v from "valibot";

type Address = ipaddr.IPv4 | ipaddr.IPv6;
/** Ranges of addresses: [first, prefix length]. */
export type AddressRanges = readonly (readonly [Address, number])[];

/** All that is public in IPv6. What embeds an IPv4 address and is not in it: mapped, compatible, NAT64. */
const IPV6_UNICAST = ipaddr.IPv6.parseCIDR("2000::/3");
/** Public by its number, but Azure's own for each of its machines: it gives out their credentials. */
const AZURE_METADATA = "168.63.129.16";
/** Below it are services that are no web servers: mail, shells, name servers. */
const UNPRIVILEGED_PORT = 1024;

/** A comma-separated list of addresses and ranges (`127.0.0.1,10.1.0.0/16`), as variables give it. */
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

/** @param allowed ranges that are allowed although they are not public */
export function isAllowedAddress(address: string, allowed: AddressRanges): boolean {
  const parsed = ipaddr.parse(address);
  return isPublic(parsed) || allowed.some((range) => isWithin(parsed, range));
}

/** What is wrong with an http(s) URL as the end of a sentence, or null. A name is judged only when it is connected to. */
export function urlComplaint(text: string, allowed: AddressRanges): string | null {
  const { username, password, port, hostname } = new URL(text);
  if (username !== "" || password !== "") return "must not hold a user name or a password";
  if (port !== "" && port !== "80" && port !== "443" && Number(port) < UNPRIVILEGED_PORT) {
    return `must use port 80, 443, or one from ${UNPRIVILEGED_PORT} on`;
  }
  const address = literalAddress(hostname);
  if (address === null || isAllowedAddress(address, allowed)) return null;
  return "must not lead to a private, local or reserved address";
}

/** The address that a URL's host is without asking a name server, or null. */
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
