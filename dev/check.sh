# Types, rules, format, and what nothing uses; the types beside the rest, because either leaves a processor idle.
. src/node.sh
(tsc -p client --noEmit && tsc -b . test/browser --checkers 1) &
oxlint && oxfmt --check && knip
rest=$?
wait $! && exit $rest
