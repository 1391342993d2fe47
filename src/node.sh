# To be sourced in the root of the project: sets $node to a Node that can run the service. The shell then replaces itself
# with it, which Node 20 cannot do, so that signals and exit codes are those of the service alone.
node=$("${npm_node_execpath:-node}" src/find-node.js) || exit 1
# The tools are found by PATH. The folder of a packaged Node holds nothing else.
case $node in */node_modules/*) PATH=${node%/*}:$PATH ;; esac
# Node says so when `--env-file-if-exists` finds none.
env_file=
[ ! -f .env ] || env_file=--env-file=.env
# What Node compiles is kept for the next start; where the folder cannot be written to, Node does without.
export NODE_COMPILE_CACHE="${NODE_COMPILE_CACHE:-$PWD/node_modules/.cache/node}"
