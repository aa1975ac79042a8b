/**
 * Turns off the telemetry of onnxruntime. Without this variable its native library looks up a host of its vendor, sends events
 * (device id, path of the Node binary, model files, hardware), and keeps the device id and the events under the user's cache
 * folder. The library reads the variable from the environment of the process: a thread that imports this file must be started
 * with `env: SHARE_ENV`, because otherwise it changes only its own copy.
 */
process.env.ORT_DISABLE_TELEMETRY = "1";
