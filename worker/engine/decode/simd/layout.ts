/** Places in the kernels' memory, in bytes. */

export const BINS = 4_096;
const DOUBLE = 8;
const EXP_STEPS = 2_048;

/** Up to eight numbers that a kernel gives back. */
export const RESULTS = 0;
export const EXP_TABLE = 64;
/** Two histograms: tokens with even and with odd ids. Sums that follow each other would otherwise wait for each other. */
export const EVEN_BINS = EXP_TABLE + EXP_STEPS * DOUBLE;
export const ODD_BINS = EVEN_BINS + BINS * DOUBLE;
export const VECTORS = ODD_BINS + BINS * DOUBLE;
