# Image of the self-hosted edge:
#   docker build -f infra/deploy/edge.Dockerfile --build-arg COMMIT=$(git rev-parse HEAD) -t trimtab-edge .
# The container runs without root and writes nothing, so its file system may be read-only.
# It has been built and run with podman (`npm run images`), not with Docker.

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

# Half of the packages' size is what nothing runs: TypeScript, types and source maps. Node's own symbols take 18 MB.
RUN apt-get update && apt-get install -y --no-install-recommends binutils \
 && strip -o /node /usr/local/bin/node \
 && rm -rf node_modules/typescript node_modules/@typescript \
 && find node_modules -type f \( -name "*.map" -o -name "*.ts" -o -name "*.mts" -o -name "*.cts" -o -name "*.md" \) \
    ! -iname "licen[cs]e*" ! -iname "notice*" ! -iname "copying*" -delete
# The packages, as CycloneDX. Some of the list are only in the worker's image.
COPY package.json package-lock.json /sbom/
RUN cd /sbom && npm sbom --package-lock-only --omit=dev --sbom-format=cyclonedx > /app/sbom.json

FROM debian:bookworm-slim
WORKDIR /app
ENV NODE_ENV=production
# Less memory when idle, by 30 MB: the threads share two heaps, and V8 collects young objects after 4 MB instead of 16, which costs no
# more processor time for a request.
ENV MALLOC_ARENA_MAX=2 NODE_OPTIONS=--max-semi-space-size=4
COPY --from=packages /node /usr/local/bin/node
COPY --from=packages /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=packages /app/package.json /app/sbom.json ./
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
# A number, so that Kubernetes can check that it is not root; above 10,000, so that it is no user of the host.
USER 10001
ENV HOST=0.0.0.0
EXPOSE 8787
HEALTHCHECK --interval=10s --timeout=6s CMD ["node", "-e", "fetch('http://127.0.0.1:' + (process.env.PORT || 8787) + '/readyz').then((reply) => process.exit(reply.ok ? 0 : 1), () => process.exit(1))"]
# Node is process 1, so SIGTERM reaches it, and it drains.
CMD ["node", "edge/server/main.ts"]
