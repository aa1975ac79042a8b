/**
 * The only import of onnxruntime-node; the linter refuses others. This folder turns off the telemetry of the native library
 * before it is loaded. It knows nothing of models.
 */
// First: imports are evaluated in this order.
import "./telemetry-off.ts";
export { env, InferenceSession, listSupportedBackends, Tensor } from "onnxruntime-node";
