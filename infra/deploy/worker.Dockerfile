# Image of the worker.
#   for a GPU:               docker build -f infra/deploy/worker.Dockerfile -t trimtab-worker .
#                            docker run --gpus all -e EXECUTION_PROVIDER=cuda …
#                            x86-64 only. The host needs NVIDIA's container toolkit and a driver for the CUDA of BASE. The build
#                            needs api.nuget.org; behind a proxy add --build-arg GLOBAL_AGENT_HTTPS_PROXY=http://proxy:3128
#   for CPUs, much smaller:  add --build-arg BASE=debian:bookworm-slim --build-arg ONNXRUNTIME=skip
#   without models, for the roles deliver, batch and sweep:  add --target control -t trimtab-control
#   all: --build-arg COMMIT=$(git rev-parse HEAD)
# The container runs without root; with a read-only file system it needs a writable /tmp.
# The images for CPUs and without models have been built and run with podman (`npm run images`); the one for GPUs was built up to the
# download from NuGet.

# onnxruntime's CUDA 12 build needs CUDA 12 and cuDNN 9. The name has its registry, because podman knows no default one.
ARG BASE=docker.io/nvidia/cuda:12.8.1-cudnn-runtime-ubuntu24.04

FROM node:24-bookworm-slim AS packages
WORKDIR /app
# onnxruntime's install script downloads the CUDA libraries over HTTPS; they are too large for the npm registry.
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates
COPY package.json package-lock.json ./
RUN ONNXRUNTIME_NODE_INSTALL=skip npm ci --omit=dev --no-audit --no-fund
# The packages, as CycloneDX. Some of the list are only in the worker's image.
COPY package.json package-lock.json /sbom/
RUN cd /sbom && npm sbom --package-lock-only --omit=dev --sbom-format=cyclonedx > /app/sbom.json

FROM packages AS control-packages
# The packages of models, and what nothing runs.
RUN rm -rf node_modules/onnxruntime-* node_modules/@huggingface node_modules/typescript node_modules/@typescript \
 && find node_modules -type f \( -name "*.map" -o -name "*.ts" -o -name "*.mts" -o -name "*.cts" -o -name "*.md" \) \
    ! -iname "licen[cs]e*" ! -iname "notice*" ! -iname "copying*" -delete \
 && apt-get install -y --no-install-recommends binutils && strip -o /node /usr/local/bin/node

FROM debian:bookworm-slim AS control
WORKDIR /app
# Less memory when idle, as in edge.Dockerfile.
ENV NODE_ENV=production MALLOC_ARENA_MAX=2 NODE_OPTIONS=--max-semi-space-size=4
COPY --from=control-packages /node /usr/local/bin/node
COPY --from=packages /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=control-packages /app ./
COPY shared shared
COPY worker worker
ENV ROLES=deliver,batch,sweep
ARG COMMIT=
ENV BUILD_COMMIT=$COMMIT
LABEL org.opencontainers.image.title="trimtab control" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="$COMMIT"
USER 10001
EXPOSE 9090
HEALTHCHECK --interval=10s --timeout=6s CMD ["node", "-e", "fetch('http://127.0.0.1:' + (process.env.HEALTH_PORT || 9090) + '/healthz').then((reply) => process.exit(reply.ok ? 0 : 1), () => process.exit(1))"]
CMD ["node", "worker/main.ts"]

FROM packages AS worker-packages
ARG ONNXRUNTIME=cuda12
# The install script reads this variable, and not HTTPS_PROXY.
ARG GLOBAL_AGENT_HTTPS_PROXY=
# The install script runs after `npm ci`, because package.json does not allow it to run inside (allowScripts).
RUN ONNXRUNTIME_NODE_INSTALL=$ONNXRUNTIME node node_modules/onnxruntime-node/script/install.js \
 # The binaries of other platforms need 245 MB.
 && cd node_modules/onnxruntime-node/bin/napi-v* \
 && find . -mindepth 2 -maxdepth 2 ! -path "./linux/$(node -p process.arch)" -exec rm -r {} +

FROM $BASE
WORKDIR /app
COPY --from=packages /usr/local/bin/node /usr/local/bin/node
COPY --from=packages /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=worker-packages /app ./
# A library of CUDA that BASE lacks ends the build, and not the worker's start. That of the driver comes from the host, and cuDNN is
# loaded later than the others.
RUN provider=$(find node_modules/onnxruntime-node/bin -name libonnxruntime_providers_cuda.so) \
 && if [ -n "$provider" ]; then \
      ! ldd "$provider" | grep "not found" | grep -v "libcuda\.so\.1" && ldconfig -p | grep libcudnn.so.9; \
    fi
COPY shared shared
COPY worker worker
# For `node infra/cli/models.ts pull`; its client of the hub is in worker/.
COPY infra/cli infra/cli
COPY infra/stack infra/stack
# The demo models. For your own, mount a folder and set TRIMTAB_MODELS.
COPY infra/models infra/models
# The worker sets it too; here it also covers other programs that are run in the image.
ENV ORT_DISABLE_TELEMETRY=1
ARG COMMIT=
ENV BUILD_COMMIT=$COMMIT
LABEL org.opencontainers.image.title="trimtab worker" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="$COMMIT"
USER 10001
# Serves /healthz, /readyz and /metrics.
EXPOSE 9090
HEALTHCHECK --interval=10s --timeout=6s CMD ["node", "-e", "fetch('http://127.0.0.1:' + (process.env.HEALTH_PORT || 9090) + '/healthz').then((reply) => process.exit(reply.ok ? 0 : 1), () => process.exit(1))"]
# Node is process 1, so SIGTERM reaches it, and it finishes its running jobs.
CMD ["node", "worker/main.ts"]
