/** Packages without a hash in a lock file. */
import { expect, test } from "vitest";
import { packagesWithoutHash } from "../../../infra/check/lock-files.ts";

test("a package without a hash is named; folders of the repository need none", () => {
  const packages = {
    "": {},
    tools: {},
    "node_modules/tools": { link: true },
    "node_modules/a": { integrity: "sha512-x" },
    "node_modules/a/node_modules/b": {},
  };
  expect(packagesWithoutHash({ packages })).toEqual(["node_modules/a/node_modules/b"]);
});
