/**
 * Ends child processes when this process cannot: after a SIGKILL or a crash.
 * A small shell reads from a pipe which process groups to guard. When this process dies, for whatever reason, the pipe
 * closes, and the shell ends the groups that are left.
 */
import { spawn } from "node:child_process";
import type { Writable } from "node:stream";

/** Sends TERM at once, and KILL after ten seconds to the groups that are still alive. */
const SHELL_SCRIPT = `
groups=' '
while read -r verb group; do
  case "$verb" in
    add) groups="$groups$group " ;;
    remove) groups="\${groups%% $group *} \${groups#* $group }" ;;
  esac
done
for group in $groups; do kill -s TERM -- "-$group"; done
for second in 1 2 3 4 5 6 7 8 9 10; do
  alive=
  for group in $groups; do kill -s 0 -- "-$group" && alive=yes; done
  [ -n "$alive" ] || exit 0
  sleep 1
done
for group in $groups; do kill -s KILL -- "-$group"; done
`;

let pipe: Writable | undefined;

/**
 * Guards a process group until the returned function is called.
 * @param pgid id of the group: the process id of its leader
 */
export function guardProcessGroup(pgid: number): () => void {
  pipe ??= startShell();
  pipe.write(`add ${pgid}\n`);
  return () => pipe?.write(`remove ${pgid}\n`);
}

function startShell(): Writable {
  const shell = spawn("sh", ["-c", SHELL_SCRIPT], {
    detached: true,
    stdio: ["pipe", "ignore", "ignore"],
  });
  // The shell must not keep this process alive.
  shell.unref();
  (shell.stdin as Writable & { unref(): void }).unref();
  shell.stdin.on("error", () => {});
  shell.on("error", () => {});
  return shell.stdin;
}
