FROM node:26-slim AS build
WORKDIR /app
COPY package.json package-lock.json ./
# Our own optional dependencies are a Node and a PostgreSQL for development. `--omit=optional` would also leave out the
# native parts of argon2 and bcrypt, so ours are taken off the list instead.
RUN npm pkg delete optionalDependencies && npm ci --omit=dev --ignore-scripts --no-audit --no-fund
# `--build-arg TRACES=on`: with the packages that OTEL_EXPORTER_OTLP_ENDPOINT needs.
ARG TRACES=off
RUN if [ "$TRACES" = on ]; then npm run install:traces; fi

FROM node:26-slim
WORKDIR /app
ENV NODE_ENV=production ENVIRONMENT=production HOST=0.0.0.0 PORT=8000
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules ./node_modules
COPY drizzle ./drizzle
COPY src ./src
USER node
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT}/health`).then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
CMD ["sh", "src/service.sh"]
