/** Makes a model from two others with the same graph, by computing with their weights. */
import {
  DATA_TYPE,
  GRAPH_PROTO,
  MODEL_PROTO,
  TENSOR_PROTO,
} from "../../worker/engine/graph/onnx-proto.ts";
import { readFields, readInteger } from "../../worker/engine/graph/onnx-wire.ts";

export interface Mix {
  /** 0 gives `from`, 1 gives `to`; above 1 the weights go on beyond `to`. */
  readonly step: number;
  /** Standard deviation of the noise, in standard deviations of each weight's values. */
  readonly noise?: number;
}

/**
 * @param from ONNX file with its weights, in float32
 * @param to the same graph with other weights
 * @returns an ONNX file: from + step * (to - from) + noise
 */
export function mixWeights(from: Uint8Array, to: Uint8Array, { step, noise = 0 }: Mix): Uint8Array {
  const mixed = Uint8Array.from(from);
  const random = normals(7);
  const others = weightsOf(to);
  for (const [i, bytes] of weightsOf(mixed).entries()) {
    const other = others[i];
    if (other?.length !== bytes.length) throw new Error("The models have different graphs");
    const values = floats(bytes);
    const target = floats(other);
    const scale = noise * deviation(values);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let k = 0; k < values.length; k++) {
      const value = values[k]! + step * (target[k]! - values[k]!) + (scale && scale * random());
      view.setFloat32(4 * k, value, true);
    }
  }
  return mixed;
}

/** The bytes of all float32 weights, as views of the file. */
function weightsOf(file: Uint8Array): Uint8Array[] {
  const weights: Uint8Array[] = [];
  for (const [, graph] of readFields(file, [MODEL_PROTO.graph])) {
    for (const [, tensor] of readFields(graph, [GRAPH_PROTO.initializer])) {
      const isFloat = readInteger(tensor, TENSOR_PROTO.dataType) === DATA_TYPE.float;
      for (const [, bytes] of readFields(tensor, [TENSOR_PROTO.rawData])) {
        if (isFloat) weights.push(bytes);
      }
    }
  }
  return weights;
}

/** A copy, because weights in a file are not aligned. */
const floats = (bytes: Uint8Array) => new Float32Array(Uint8Array.from(bytes).buffer);

function deviation(values: Float32Array): number {
  let [sum, squares] = [0, 0];
  for (const value of values) {
    sum += value;
    squares += value * value;
  }
  return Math.sqrt(Math.max(0, squares / values.length - (sum / values.length) ** 2));
}

/** Normal numbers from a seed (Box and Muller). */
function normals(seed: number): () => number {
  let state = seed;
  const uniform = () => {
    state = (state * 48_271) % 2_147_483_647;
    return state / 2_147_483_647;
  };
  return () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
}
