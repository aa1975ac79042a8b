import * as v from "valibot";
import { expect, test } from "vitest";
import { AddressList, isAllowedAddress, urlProblem } from "../../../shared/webhooks/url.ts";

const allow = (list: string) => v.parse(AddressList, list);

test.each([
  ["private", ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fd00::1"]],
  ["loopback", ["127.0.0.1", "127.255.0.9", "::1"]],
  ["this network, broadcast", ["0.0.0.0", "0.1.2.3", "255.255.255.255", "::"]],
  ["link-local", ["169.254.1.1", "fe80::1", "fe80::1%eth0", "fec0::1"]],
  ["metadata services", ["169.254.169.254", "fd00:ec2::254", "168.63.129.16", "100.100.100.200"]],
  ["carrier-grade NAT", ["100.64.0.1", "100.127.255.255"]],
  ["multicast", ["224.0.0.1", "239.255.255.250", "ff02::1"]],
  ["reserved, benchmarks, examples", ["240.0.0.1", "198.18.0.1", "192.0.2.1", "2001:db8::1"]],
  ["IPv4 mapped and compatible", ["::ffff:10.0.0.1", "::ffff:7f00:1", "::127.0.0.1"]],
  ["6to4", ["2002:7f00:1::", "2002:a9fe:a9fe::1"]],
  ["NAT64", ["64:ff9b::7f00:1", "64:ff9b::169.254.169.254", "64:ff9b:1::a00:1"]],
  ["Teredo, translated", ["2001:0:4136:e378:8000:63bf:3fff:fdd2", "::ffff:0:127.0.0.1"]],
])("%s addresses are refused", (_, addresses) => {
  expect(addresses.filter((address) => isAllowedAddress(address, []))).toEqual([]);
});

test("public addresses are allowed", () => {
  const addresses = ["1.1.1.1", "93.184.216.34", "172.32.0.1", "100.128.0.1", "2606:4700::1111"];
  expect(addresses.filter((address) => !isAllowedAddress(address, []))).toEqual([]);
});

test("ranges that the operator allows are allowed, and no others", () => {
  const allowed = allow("127.0.0.1, 10.1.0.0/16,::1");
  expect(["127.0.0.1", "10.1.2.3", "::1"].every((a) => isAllowedAddress(a, allowed))).toBe(true);
  const others = ["127.0.0.2", "10.2.0.1", "::ffff:127.0.0.1", "::2"];
  expect(others.filter((address) => isAllowedAddress(address, allowed))).toEqual([]);
  expect(allow("")).toEqual([]);
  expect(() => allow("localhost")).toThrow("Expected addresses or ranges");
});

test.each([
  ["http://127.0.0.1/", /private, local or reserved/],
  ["http://localhost:8080/", /private/],
  ["http://api.localhost./", /private/],
  // Other spellings of 127.0.0.1 and 169.254.169.254, which a URL parser normalizes.
  ["http://2130706433/", /private/],
  ["http://0x7f.1/", /private/],
  ["http://0251.0376.0251.0376/", /private/],
  ["http://①②⑦.0.0.1/", /private/],
  ["http://[::1]/", /private/],
  ["http://[::ffff:127.0.0.1]/", /private/],
  ["https://user@example.com/", /user name or a password/],
  ["https://:word@example.com/", /user name or a password/],
  ["https://example.com:25/", /port 80, 443, or a port from 1024/],
  ["https://example.com:22/", /port/],
])("%s is refused", (url, complaint) => {
  expect(urlProblem(url, [])).toMatch(complaint);
});

test.each([
  "https://example.com/hook?a=b",
  "http://example.com:80/",
  "https://example.com:8443/",
  "http://1.1.1.1/",
  "http://[2606:4700::1111]:8080/",
])("%s is accepted", (url) => {
  expect(urlProblem(url, [])).toBeNull();
});

test("localhost is accepted if the operator allows 127.0.0.1, but not on a low port", () => {
  expect(urlProblem("http://localhost:3000/hook", allow("127.0.0.1"))).toBeNull();
  expect(urlProblem("http://localhost:25/", allow("127.0.0.1"))).toMatch(/port/);
});
