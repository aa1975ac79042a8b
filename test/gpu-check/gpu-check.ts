/**
 * `npm run gpu-check -- pack` makes archives with everything that a machine with a GPU needs, which then runs without a network,
 * npm or Node of its own. `npm run gpu-check -- run` runs the same check on this machine.
 */
const [command] = process.argv.splice(2, 1);
if (command === "pack") await import("./pack.ts");
else if (command === "run") await import("./run.ts");
else {
  console.error(
    "usage: npm run gpu-check -- pack|run [options]; pack --help and run --help list them",
  );
  process.exitCode = 1;
}
