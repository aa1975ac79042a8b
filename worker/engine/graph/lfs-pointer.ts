/** Recognises git-LFS pointers: small text files that a clone without git-LFS has in place of large files. */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";

const POINTER_BYTES_MAX = 1_024;
const FIRST_LINE = "version https://git-lfs.github.com/spec/";

/** @throws Error if a file is a git-LFS pointer, or if it cannot be read */
export function refusePointer(file: string): void {
  const fd = openSync(file, "r");
  try {
    const { size } = fstatSync(fd);
    if (size > POINTER_BYTES_MAX) return;
    const bytes = Buffer.alloc(size);
    readSync(fd, bytes, 0, size, 0);
    if (!bytes.toString("latin1").startsWith(FIRST_LINE)) return;
  } finally {
    closeSync(fd);
  }
  throw new Error("It is a git-LFS pointer and not the file itself: run `git lfs pull` there");
}
