# Image of the worker.
#   for a GPU:               docker build -f infra/deploy/worker.Dockerfile -t trimtab-worker .
#                            docker run --gpus all -e EXECUTION_PROVIDER=cuda …
#                            x86-64 only. The host needs NVIDIA's container toolkit and a driver for CUDA 13 (580 or newer).
#   for CPUs, much smaller:  add --build-arg EXECUTION_PROVIDER=cpu
#   without models, for the roles deliver, batch and sweep:  add --target control -t trimtab-control
#   all: --build-arg COMMIT=$(git rev-parse HEAD)
# The container runs without root; with a read-only file system it needs a writable /tmp.
# All have been built and run with podman; the one for GPUs only without a GPU.

FROM node:24-bookworm-slim AS packages
WORKDIR /app
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
# The binaries of other platforms need 245 MB.
RUN cd node_modules/onnxruntime-node/bin/napi-v* \
 && find . -mindepth 2 -maxdepth 2 ! -path "./linux/$(node -p process.arch)" -exec rm -r {} +

FROM packages AS cuda-libraries
ARG EXECUTION_PROVIDER=cuda
COPY infra/deploy/cuda-requirements.txt /
# onnxruntime-node's own install script would take the provider from NuGet, for CUDA 12. Left out are second versions of libraries.
RUN mkdir /provider /libraries && if [ "$EXECUTION_PROVIDER" = cuda ]; then \
      apt-get install -y --no-install-recommends python3-pip \
   && pip install --no-cache-dir --no-deps --require-hashes --only-binary :all: --python-version 3.13 \
        --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux2014_x86_64 --platform manylinux2010_x86_64 \
        --target /cuda -r /cuda-requirements.txt \
   && mv /cuda/onnxruntime/capi/libonnxruntime_providers_cuda.so /cuda/onnxruntime/capi/libonnxruntime_providers_shared.so /provider/ \
   && mv /cuda/nvidia/*/lib/lib*.so.* /libraries/ && rm -r /cuda /libraries/*.alt.* /libraries/libnvblas.* \
      # They are loaded by these names.
   && ln -s libcudnn.so.9 /libraries/libcudnn.so && ln -s libnvrtc.so.13 /libraries/libnvrtc.so; \
    fi

FROM debian:bookworm-slim
WORKDIR /app
COPY --from=packages /usr/local/bin/node /usr/local/bin/node
COPY --from=packages /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=worker-packages /app ./
COPY --from=cuda-libraries /libraries /usr/local/lib
COPY --from=cuda-libraries /provider node_modules/onnxruntime-node/bin/napi-v6/linux/x64/
# A library that is missing ends the build, and not the worker's start. That of the driver comes from the host.
RUN ldconfig \
 && provider=node_modules/onnxruntime-node/bin/napi-v6/linux/x64/libonnxruntime_providers_cuda.so \
 && if [ -e "$provider" ]; then ! ldd "$provider" | grep "not found" | grep -v "libcuda\.so\.1"; fi
COPY shared shared
COPY worker worker
# For `node infra/cli/models.ts pull`; its client of the hub is in worker/.
COPY infra/cli infra/cli
COPY infra/stack infra/stack
# The demo models. For your own, mount a folder and set TRIMTAB_MODELS.
COPY infra/models infra/models
# ORT_DISABLE_TELEMETRY: the worker sets it too; here it also covers other programs. The other variable is for NVIDIA's container toolkit.
ENV ORT_DISABLE_TELEMETRY=1 NVIDIA_DRIVER_CAPABILITIES=compute,utility
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
