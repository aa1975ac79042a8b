/** How far the loading of models is. */
export interface LoadingProgress {
  /** Files of a repository arrive (`pull`), or models are loaded (`load`). */
  readonly stage: "pull" | "load";
  /** Files or models that are there, of all; a model that several ensembles share counts once. */
  readonly loaded: number;
  readonly of: number;
  /** Bytes of their files. */
  readonly bytes: number;
  readonly bytesOf: number;
  /** The repository, or the folder of the model that loads now; null after the last one. */
  readonly model: string | null;
  /** Whether its graph is prepared first, which loads it several times; absent for no. */
  readonly prepares?: boolean;
}
