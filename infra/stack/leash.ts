/**
 * Ends our child processes when this process can no longer do it: after a SIGKILL or a crash.
 * One small shell reads the process groups to watch over from a pipe; the pipe closes when we die, in whatever way,
 * and then the shell ends the groups that are left.
 */
import { spawn } from "node:child_process";
import type { Writable } from "node:stream";

/** TERM at once, KILL after ten seconds to whatever still lives. */
const SHELL = `
groups=' '
while read -r verb group; do
  case "$verb" in
    hold) groups="$groups$group " ;;
    drop) groups="\${groups%% $group *} \${groups#* $group }" ;;
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

/** Watches over a process group until the returned function is called. */
export function holdGroup(pgid: number): () => void {
  pipe ??= startShell();
  pipe.write(`hold ${pgid}\n`);
  return () => pipe?.write(`drop ${pgid}\n`);
}

function startShell(): Writable {
  const shell = spawn("sh", ["-c", SHELL], {
    detached: true,
    stdio: ["pipe", "ignore", "ignore"],
  });
  // It waits for us, not we for it.
  shell.unref();
  (shell.stdin as Writable & { unref(): void }).unref();
  shell.stdin.on("error", () => {});
  shell.on("error", () => {});
  return shell.stdin;
}
