FROM node:26-slim AS build
# The bill of materials calls the service by the name of its folder.
WORKDIR /latchkey
COPY package.json package-lock.json ./
# Our own optional dependencies are a Node and a PostgreSQL for development. `--omit=optional` would also leave out the
# native parts of argon2 and bcrypt, so ours are taken off the list instead; the rest of what is for development too,
# because a bill of materials calls what is on the list and not there a fault.
RUN npm pkg delete optionalDependencies devDependencies workspaces \
  && npm ci --ignore-scripts --no-audit --no-fund
# `--build-arg TRACES=on`: with the packages that OTEL_EXPORTER_OTLP_ENDPOINT needs.
ARG TRACES=off
RUN if [ "$TRACES" = on ]; then npm run install:traces -- --save --save-exact; fi
# An address such as git@host:path is no URI, which CycloneDX asks for.
RUN npm sbom --sbom-format=cyclonedx --sbom-type=application >sbom.cdx.json \
  && sed -i 's|"git@\([^:"]*\):|"ssh://git@\1/|' sbom.cdx.json

FROM node:26-slim
WORKDIR /app
ENV NODE_ENV=production ENVIRONMENT=production HOST=0.0.0.0 PORT=8000
COPY --from=build /latchkey/package.json /latchkey/sbom.cdx.json ./
COPY --from=build /latchkey/node_modules ./node_modules
COPY drizzle ./drizzle
COPY src ./src
USER node
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT}/health`).then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
CMD ["sh", "src/service.sh"]
