/** Bounds of RESULT_TTL_SECONDS, in seconds. Edge and workers both end jobs, so both read the variable with this range. */
export const RESULT_TTL = { default: 86_400, min: 1, max: 30 * 86_400 };
