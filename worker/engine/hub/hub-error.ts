/** An error that the operator can correct: a name, a token, the disk, or a hub that does not answer. */
export class HubError extends Error {
  override readonly name = "HubError";
}
