# Image of the self-hosted edge:
#   docker build -f infra/deploy/edge.Dockerfile --build-arg COMMIT=$(git rev-parse HEAD) -t trimtab-edge .
# The container runs without root and writes nothing, so its file system may be read-only.
# This file has not been tested with a Docker engine: a detail may need a correction.

FROM node:24-bookworm-slim AS packages
WORKDIR /app
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates
COPY package.json package-lock.json ./
RUN ONNXRUNTIME_NODE_INSTALL=skip npm ci --no-audit --no-fund
# The scripts of the pages are made with packages that the server does not need.
COPY shared shared
COPY edge edge
COPY infra/pages infra/pages
RUN node -e 'import("./infra/pages/write.ts").then(({ writePages }) => writePages())' \
 && ONNXRUNTIME_NODE_INSTALL=skip npm prune --omit=dev --no-audit --no-fund \
 # Only workers run models.
 && rm -rf node_modules/onnxruntime-node node_modules/@huggingface

FROM node:24-bookworm-slim
WORKDIR /app
ENV NODE_ENV=production
COPY --from=packages /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=packages /app/package.json ./
COPY --from=packages /app/node_modules node_modules
COPY --from=packages /app/shared shared
COPY --from=packages /app/edge edge
# For `node infra/cli/keys.ts`.
COPY infra/cli infra/cli
COPY infra/stack infra/stack
ARG COMMIT=
ENV BUILD_COMMIT=$COMMIT
LABEL org.opencontainers.image.title="trimtab edge" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="$COMMIT"
# A number, so that Kubernetes can check that it is not root.
USER 1000
ENV HOST=0.0.0.0
EXPOSE 8787
HEALTHCHECK --interval=10s --timeout=6s CMD ["node", "-e", "fetch('http://127.0.0.1:' + (process.env.PORT || 8787) + '/readyz').then((reply) => process.exit(reply.ok ? 0 : 1), () => process.exit(1))"]
# Node is process 1, so SIGTERM reaches it, and it drains.
CMD ["node", "edge/server/main.ts"]
