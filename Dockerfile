# syntax=docker/dockerfile:1
FROM node:22-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --ignore-scripts
COPY tsconfig.json tsconfig.build.json ./
COPY src ./src
RUN npm run build

FROM node:22-slim AS dependencies
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# The build stage compiles; here no script of the package or of a dependency has to run.
RUN npm ci --omit=dev --ignore-scripts && npm cache clean --force

FROM node:22-slim
LABEL org.opencontainers.image.title="cyber-collect" \
      org.opencontainers.image.description="Extracts whole datasets from security vendors' APIs to your stores" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV NODE_ENV=production \
    STORE_FILE=/data/%TAG/%TENANCY.json \
    STORE_FILE_EVENTS=/data/%TAG/%TENANCY/%YYYY-%MM-%DD/%UUID.json \
    CYBER_COLLECT_STATE=/data/.cyber-collect
WORKDIR /app
COPY package.json LICENSE CHANGELOG.md ./
COPY bin ./bin
COPY --from=build /app/dist ./dist
COPY --from=dependencies /app/node_modules ./node_modules
RUN install -d -o 1000 -g 1000 -m 0750 /data
# `node` of the base image, as a number so that Kubernetes can check runAsNonRoot.
USER 1000:1000
WORKDIR /data
ENTRYPOINT ["node", "--max-semi-space-size=1", "/app/bin/cyber-collect.js"]
CMD ["run"]
