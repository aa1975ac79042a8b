/**
 * Bounds of STORED_MIB: MiB of a tenant's requests and ended jobs in Redis. The edge checks it for requests and workers for lines
 * of batches, so both read the variable with this range.
 */
export const STORED_MIB = { default: 1_024, min: 1, max: 1_048_576 };
export const MIB = 1_048_576;
