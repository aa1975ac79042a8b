# The worker, for a GPU:        docker build -f infra/worker.Dockerfile -t trimtab-worker .
# Without one, much smaller:    add --build-arg BASE=debian:bookworm-slim --build-arg ONNXRUNTIME=skip
# The first needs EXECUTION_PROVIDER=cuda when it runs.
# Written without a Docker engine at hand: it has not been built, so expect to correct a detail.

# What onnxruntime's CUDA 12 build needs: CUDA 12 and cuDNN 9.
ARG BASE=nvidia/cuda:12.8.1-cudnn-runtime-ubuntu24.04

FROM node:24-bookworm-slim AS packages
ARG ONNXRUNTIME=cuda12
WORKDIR /app
# Its install script fetches the CUDA libraries, which are too large for the npm registry.
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates
COPY package.json package-lock.json .npmrc ./
# First without them and then on purpose: inside `npm ci` its script is not allowed to run (package.json).
RUN ONNXRUNTIME_NODE_INSTALL=skip npm ci --omit=dev --no-audit --no-fund \
 && ONNXRUNTIME_NODE_INSTALL=$ONNXRUNTIME node node_modules/onnxruntime-node/script/install.js

FROM $BASE
WORKDIR /app
COPY --from=packages /usr/local/bin/node /usr/local/bin/node
COPY --from=packages /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=packages /app ./
COPY shared shared
COPY worker worker
# The demo family; mount your own and set TRIMTAB_MODELS.
COPY infra/models infra/models
USER 1000
# /healthz and /readyz
EXPOSE 9090
# Node itself is process 1, so that SIGTERM reaches it and it drains.
CMD ["node", "worker/main.ts"]
