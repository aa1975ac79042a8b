/**
 * The messages between the main thread, the prepare thread and the engine thread. They are copied by structured clone, so they are plain data.
 * This file may not import from worker/engine/.
 */
import type { FinishReason } from "../../shared/api/job-parts.ts";
import type { ErrorCode } from "../../shared/api/error-codes.ts";
import type { CompiledGrammar } from "../../shared/grammar/automaton/compiled.ts";
import type { Generation } from "../../shared/jobs/record.ts";
import type { ModelCard } from "../../shared/workers/model-card.ts";
import type { TokenizerAnswer, TokenizerRequest } from "../../shared/workers/tokenizer-requests.ts";
import type { TokenDetail } from "../../shared/api/token-details.ts";
import type * as Change from "./change-messages.ts";
import type { LoadingProgress } from "./loading-progress.ts";

/** The execution provider of onnxruntime that runs the graphs. */
export type ExecutionProvider = "cpu" | "cuda" | "webgpu";

/** Options of the threads, given when they start. */
export interface EngineOptions {
  /** Threads inside one operator; 0 lets onnxruntime choose. */
  readonly intraOpThreads: number;
  /** Absent: "cpu". */
  readonly executionProvider?: ExecutionProvider;
  /** Path of ensembles.json. */
  readonly manifestFile: string;
  /** The manifest's text at the start; absent for that of the file. */
  readonly manifestText?: string;
  /** Limit of all KV caches together, in bytes. */
  readonly cacheBytesMax: number;
  /** Whether repositories of the manifest that are not in the cache are got from the hub first. */
  readonly pullsModels?: boolean;
  /** Folder for prepared graphs of models whose folder cannot be written; absent for none. */
  readonly preparedFolder?: string | undefined;
  /** Limit of the prefix cache, in addition to `cacheBytesMax`, in bytes; 0 turns it off. */
  readonly prefixBytesMax: number;
}

/** The description of a run for both threads. */
interface RunRequest {
  /** An id that the client chooses. */
  readonly run: number;
  /** Owner of the job: cached prefixes are reused only for the same tenant. */
  readonly tenant: string;
  /** Tokens that an earlier attempt generated. */
  readonly resume: readonly number[];
}

/** A generation on its way to the prepare thread: its grammar is JSON, which takes the main thread half as long as a copy of objects. */
export type SentGeneration = Omit<Generation, "grammar"> & { readonly grammar?: string };

export function toSent({ grammar, ...rest }: Generation): SentGeneration {
  return { ...rest, ...(grammar && { grammar: JSON.stringify(grammar) }) };
}

/** A generation to prepare. */
export interface PrepareRequest extends RunRequest {
  readonly type: "prepare";
  readonly generation: SentGeneration;
  /** The time that chat templates see. */
  readonly submittedAtMs: number;
}

/** A question for a tokenizer. */
export interface TokenizeRequest extends Pick<TokenizerRequest, "tenant" | "model" | "question"> {
  readonly type: "tokenize";
  readonly run: number;
}

export type ToPrepare =
  | PrepareRequest
  | TokenizeRequest
  /** Drops a generation that is not prepared yet. */
  | { readonly type: "drop"; readonly run: number }
  | { readonly type: "readManifest" }
  | Change.RemoveEnsembles
  | { readonly type: "exit" };

/** Token ids in shared memory: they are not copied from thread to thread. */
export type TokenIds = Int32Array;

/** A compiled grammar, and a hash that equal grammars share. */
export interface PreparedGrammar {
  readonly hash: string;
  readonly tables: CompiledGrammar;
}

/** A generation that is ready to run: its token ids are checked, and they fit the context. */
export interface PreparedGeneration {
  /** Without the texts, the tools and the grammar, which are prepared below. */
  readonly generation: Omit<Generation, "input" | "completion" | "grammar" | "tools">;
  /** Prompts of the ensemble's models; those of models that do not run are the base's. */
  readonly prompts: Readonly<Record<"base" | "expert" | "antiexpert", TokenIds>>;
  /** Prompts of the pairs' models, in the order of `generation.pairs`. */
  readonly pairPrompts: readonly Readonly<Record<"expert" | "antiexpert", TokenIds>>[];
  /** Tokens to score; null to generate tokens. */
  readonly forcedTokens: TokenIds | null;
  /** How many of the last tokens of all prompts, which are the same, are scored; null if the prompt is not scored. */
  readonly scoredPromptTokens: number | null;
  readonly grammar: PreparedGrammar | null;
  /** The conversation, for a base that takes no other prompt; otherwise null. */
  readonly chat: readonly { readonly role: string; readonly content: string }[] | null;
  /** Most tokens to generate within the context. */
  readonly maxTokens: number;
  /** Most tokens in a KV cache: prompt and output. */
  readonly cacheTokensMax: number;
}

export type FromPrepare =
  /** With the manifest's text, and the reasons why a worker runs slower than it could. */
  | { readonly type: "ready"; readonly manifestText: string; readonly warnings: readonly string[] }
  | { readonly type: "startFailed"; readonly reason: string }
  | Change.ManifestRead
  | Change.ManifestRefused
  | { readonly type: "prepared"; readonly run: number; readonly prepared: PreparedGeneration }
  | { readonly type: "tokenized"; readonly run: number; readonly answer: TokenizerAnswer }
  | {
      readonly type: "failed";
      readonly run: number;
      readonly code: ErrorCode;
      readonly message: string;
    };

/** Starts a run of a prepared generation. */
export interface StartRequest extends RunRequest {
  readonly type: "start";
  readonly prepared: PreparedGeneration;
  /** Tokens of the base's prompt whose details an earlier attempt has logged. */
  readonly promptLogged: number;
}

export type ToEngine =
  | StartRequest
  | Change.AddEnsembles
  | Change.RemoveEnsembles
  | { readonly type: "stop"; readonly run: number }
  | { readonly type: "exit" };

/** A token, and the text that it makes final. A token with `detail.prompt` belongs to the prompt. */
export interface TokenEvent {
  readonly type: "token";
  readonly token: number;
  readonly text: string;
  /** Runs of the base for this generation so far, from the start of this run. */
  readonly baseCalls: number;
  /** Log-probabilities and trace, if the request asks for them; the masked probability with a response format. */
  readonly detail?: TokenDetail;
}

/** The run has joined the batch, and its prompt is prefilled next. */
export interface PrefillEvent {
  readonly type: "prefill";
  readonly promptTokens: number;
}

/** Source of drafted tokens: the expert model, prompt lookup (repetitions in prompt and output), or a remote base's own stream. */
export type DraftSource = "expert" | "lookup" | "base";

/** Drafted tokens that were verified, and how many of them were accepted. */
export type DraftCounts = Readonly<Record<DraftSource, { drafted: number; accepted: number }>>;

export function emptyDraftCounts(): DraftCounts {
  const none = () => ({ drafted: 0, accepted: 0 });
  return { expert: none(), lookup: none(), base: none() };
}

/** The sum over all draft sources. */
export function totalDrafts({ expert, lookup, base }: DraftCounts): {
  drafted: number;
  accepted: number;
} {
  return {
    drafted: expert.drafted + lookup.drafted + base.drafted,
    accepted: expert.accepted + lookup.accepted + base.accepted,
  };
}

/** Token counts of a run. */
export interface RunUsage {
  readonly promptTokens: number;
  /** Runs of the base: chunks of its prompt, decoded tokens, verifications of drafts, chunks that are scored. Calls of a remote base. */
  readonly baseCalls: number;
  /** Tokens of the prompt that came from the prefix cache. */
  readonly cachedTokens: number;
  readonly drafts: DraftCounts;
  /** Null with a local base. */
  readonly remote: RemoteCounts | null;
}

/**
 * Why a call to a remote base was made. Rows: the prompt's first; after a call without drafts; after one whose drafts were all right,
 * or one of them wrong; after a stream that ended, or that the output left. Again about one position: tokens by their ids, a
 * longer list, a list without lifted tokens.
 */
export type CallReason =
  | "first"
  | "undrafted"
  | "used"
  | "rejected"
  | "streamEnded"
  | "streamLeft"
  | "ids"
  | "longer"
  | "unlifted";

/** The cost of a remote base for a run, and how many of its tokens are proven. */
export interface RemoteCounts {
  calls: number;
  /** The same calls. */
  readonly reasons: Partial<Record<CallReason, number>>;
  /** Calls that asked for more about a position that was known in part. */
  asked: number;
  /** Tokens that are proven to be those of the whole distribution. */
  certified: number;
  /** Tokens that are not, within `errorMax`. */
  bounded: number;
  /** Tokens that were drawn from the base alone, because those of the steered distribution were beyond the request's bound. */
  fellBack: number;
  /** The largest bound of a token that is not proven. */
  errorMax: number;
  /** Bodies of requests and replies. */
  bytes: number;
}

export function emptyRemoteCounts(): RemoteCounts {
  return {
    calls: 0,
    reasons: {},
    asked: 0,
    certified: 0,
    bounded: 0,
    fellBack: 0,
    errorMax: 0,
    bytes: 0,
  };
}

export const NO_USAGE: RunUsage = {
  promptTokens: 0,
  baseCalls: 0,
  cachedTokens: 0,
  drafts: emptyDraftCounts(),
  remote: null,
};

/** The last event of every run: the way it ended. */
export type RunEndEvent =
  | {
      readonly type: "end";
      /** Null if the run was stopped by the client. */
      readonly finish: FinishReason | null;
      /** The stop string that ended the output; absent if none did. */
      readonly stopString?: string;
      readonly usage: RunUsage;
    }
  | {
      readonly type: "failed";
      /** "internal" only between the threads: the client throws an error. */
      readonly code: ErrorCode;
      readonly message: string;
      readonly usage: RunUsage;
    };

export type RunEvent = PrefillEvent | TokenEvent | RunEndEvent;

export function isEndEvent(event: RunEvent): event is RunEndEvent {
  return event.type === "end" || event.type === "failed";
}

/** The base of an ensemble that another server runs. */
export interface RemoteBaseState {
  /** Id of the ensemble. */
  readonly model: string;
  /** Why the base cannot be used now; null if it can. */
  readonly problem: string | null;
  /** The result of its last check, for the log. */
  readonly warnings: readonly string[];
  /** The text of its server's last error, for the log alone: clients must not see it. */
  readonly serverText: string | null;
}

/** Messages of the thread that gets repositories. */
export type FromPull =
  | { readonly type: "ready" }
  | { readonly type: "loading"; readonly progress: LoadingProgress }
  | { readonly type: "startFailed"; readonly reason: string };

export type FromEngine =
  | { readonly type: "loading"; readonly progress: LoadingProgress }
  | {
      readonly type: "ready";
      readonly cards: readonly ModelCard[];
      /** Why a model runs slower than it could; empty if none does. */
      readonly warnings: readonly string[];
      readonly bases: readonly RemoteBaseState[];
    }
  | Change.EnsemblesChanged
  | Change.ChangeFailed
  /** A base can be used again, or cannot any more, or its server has answered an error. */
  | { readonly type: "bases"; readonly bases: readonly RemoteBaseState[] }
  | { readonly type: "startFailed"; readonly reason: string }
  | {
      readonly type: "events";
      /** In their order. */
      readonly events: readonly { readonly run: number; readonly event: RunEvent }[];
    }
  | { readonly type: "stats"; readonly stats: EngineStats };

/** Counts of the runs of one ensemble. */
export interface ModelCounts {
  promptTokens: number;
  cachedTokens: number;
  generatedTokens: number;
  readonly drafts: DraftCounts;
  /** Time of each run from its start message, when it is prepared, to its first token, in ms. */
  readonly firstTokenMs: number[];
}

export function emptyModelCounts(): ModelCounts {
  return {
    promptTokens: 0,
    cachedTokens: 0,
    generatedTokens: 0,
    drafts: emptyDraftCounts(),
    firstTokenMs: [],
  };
}

/** Counts since the previous report, which is about one second old. */
export interface EngineCounts {
  /** By the ids of the ensembles that had runs. */
  readonly models: Map<string, ModelCounts>;
  /** Duration of each step of the batch, in ms. */
  readonly stepMs: number[];
}

export interface EngineStats extends Readonly<EngineCounts> {
  /** Runs in the batch now. */
  readonly running: number;
  /** Runs that wait for room in the KV cache budget now. */
  readonly waiting: number;
  /** Whether no step is taken because all runs wait for a remote base. */
  readonly awaitsBase: boolean;
  /** Bytes of all KV caches now. */
  readonly cacheBytes: number;
  /** Bytes of the prefix cache now. */
  readonly prefixBytes: number;
}
