# syntax=docker/dockerfile:1
# The base can be pinned: --build-arg NODE=node:24-slim@sha256:...
ARG NODE=node:24-slim

# What is compiled runs on any platform, so this stage runs on the machine's own.
FROM --platform=$BUILDPLATFORM ${NODE} AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --ignore-scripts
COPY tsconfig.json tsconfig.build.json ./
COPY src ./src
ARG COMMIT=
RUN COMMIT="$COMMIT" npm run build

FROM ${NODE} AS dependencies
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# The build stage compiles; here no script of the package or of a dependency has to run.
RUN npm ci --omit=dev --ignore-scripts && npm cache clean --force

FROM ${NODE}
ARG COMMIT=
LABEL org.opencontainers.image.title="cyber-collect" \
      org.opencontainers.image.description="Extracts whole datasets from security vendors' APIs to your stores" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="$COMMIT"
ENV NODE_ENV=production \
    STORE_FILE=/data/%TAG/%TENANCY.json \
    STORE_FILE_EVENTS=/data/%TAG/%TENANCY/%YYYY-%MM-%DD/%UUID.json \
    CYBER_COLLECT_STATE=/data/.cyber-collect
# Nothing is installed in a container that runs: what could do so is not kept. Only /data is written to, and /tmp.
RUN rm -rf /usr/local/lib/node_modules /opt/yarn* /usr/local/bin/npm /usr/local/bin/npx /usr/local/bin/corepack /usr/local/bin/yarn* \
 && install -d -o 1000 -g 1000 -m 0750 /data
WORKDIR /app
COPY package.json LICENSE CHANGELOG.md ./
COPY bin ./bin
COPY --from=build /app/dist ./dist
COPY --from=dependencies /app/node_modules ./node_modules
# `node` of the base image, as a number so that Kubernetes can check runAsNonRoot.
USER 1000:1000
WORKDIR /data
# Of a container that runs `watch`; any other one is as healthy as its process.
HEALTHCHECK --interval=1m --timeout=30s --start-period=2m --retries=3 \
  CMD ["sh", "-c", "! grep -qzx watch /proc/1/cmdline || node /app/bin/cyber-collect.js watch --health || exit 1"]
ENTRYPOINT ["node", "--", "/app/bin/cyber-collect.js"]
CMD ["run"]
