# The service as `npm start`, the image and the benchmark run it.
cd "$(dirname "$0")/.." && . src/node.sh
exec "$node" --max-semi-space-size=8 --heap-growing-percent=40 $env_file src/server.ts "$@"
