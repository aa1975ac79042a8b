/**
 * A fast exp of two doubles at once. exp(x) = 2^q * 2^(k / 2048) * e^r with integers q and k < 2048. The second factor comes from a
 * table. As r is below 0.0004, three terms of the series give e^r with a relative error below 1e-11, and four the bits of a double.
 */
import { f64, f64x2, i32, i32x4, i64x2, v128, type Code, type Kernel } from "./assembler.ts";

const STEPS = 2_048;
const STEPS_LOG2 = 11;
/** Below this exponent, 2^q is not a normal double, and the value is too small to change a sum. */
const X_MIN = -1_020 * Math.LN2;
const EXPONENT_BIAS = 1_023n;
const MANTISSA_BITS = 52n;
/** A shift by this moves q to the place of a double's exponent. */
const MANTISSA_BITS_ABOVE_STEPS = Number(MANTISSA_BITS) - STEPS_LOG2;
/** With this added, the low bits of a double of whole value are those of the integer. */
const INTEGER_BASE = 1.5 * 2 ** 52;
const DOUBLE_BYTES_LOG2 = 3;

export const fractionPowers = Float64Array.from({ length: STEPS }, (_, k) => 2 ** (k / STEPS));

export interface ExpCode {
  /** Sets the result. @param x two doubles, at most 0; one that is NaN or below -707 gives 0 */
  of(x: Code): Code;
  readonly result: Code;
}

/** @param table address of `fractionPowers` @param terms of the series */
export function expCode(kernel: Kernel, table: number, terms: 3 | 4): ExpCode {
  const constant = (value: number) => kernel.constant(f64x2.splat(f64.const(value)));
  const integer = (value: bigint) => kernel.constant(i64x2.splat(value));
  const [one, half, sixth] = [constant(1), constant(1 / 2), constant(1 / 6)];
  const [stepsPerNat, natsPerStep] = [constant(STEPS / Math.LN2), constant(Math.LN2 / STEPS)];
  const [xMin, toInteger] = [constant(X_MIN), constant(INTEGER_BASE)];
  const [positionBits, wholeBits, bias] = [
    integer(BigInt(STEPS - 1)),
    integer(-1n << MANTISSA_BITS),
    integer(EXPONENT_BIAS << MANTISSA_BITS),
  ];
  const vector = () => kernel.local("v128");
  const [x, steps, whole, step, offsets, rest, result] = [
    vector(),
    vector(),
    vector(),
    vector(),
    vector(),
    vector(),
    vector(),
  ];
  const exponent = v128.and(i64x2.shl(step.get, i32.const(MANTISSA_BITS_ABOVE_STEPS)), wholeBits);
  const wholePower = i64x2.add(exponent, bias);
  const behind =
    terms === 3
      ? f64x2.mul(half, rest.get)
      : f64x2.mul(rest.get, f64x2.add(half, f64x2.mul(rest.get, sixth)));
  const series = f64x2.add(one, f64x2.mul(rest.get, f64x2.add(one, behind)));
  const body = [
    steps.set(f64x2.mul(x.get, stepsPerNat)),
    whole.set(f64x2.trunc(steps.get)),
    step.set(f64x2.add(whole.get, toInteger)),
    rest.set(f64x2.mul(f64x2.sub(steps.get, whole.get), natsPerStep)),
    offsets.set(i64x2.shl(v128.and(step.get, positionBits), i32.const(DOUBLE_BYTES_LOG2))),
    result.set(v128.load64Zero(i32x4.extractLane(0, offsets.get), table)),
    result.set(v128.load64Lane(1, i32x4.extractLane(2, offsets.get), table, result.get)),
    result.set(f64x2.mul(f64x2.mul(wholePower, result.get), series)),
    result.set(v128.and(result.get, f64x2.gt(x.get, xMin))),
  ].flat();
  return { of: (value) => [...x.set(value), ...body], result: result.get };
}
