# Runs one PostgreSQL server for as long as standard input stays open. The program that starts it holds the other end,
# so however that program ends, `kill -9` included, the server is stopped.
# $1 postgres, $2 its data directory, $3… what to remove afterwards.
postgres=$1 data=$2
shift 2
exec 3<&0 </dev/null
"$postgres" -D "$data" 3<&- &
server=$!
(
    while read -r _ <&3; do :; done
    kill -INT "$server"
    left=100
    while kill -0 "$server" && [ "$left" -gt 0 ]; do sleep 0.2; left=$((left - 1)); done
    kill -QUIT "$server"
) 2>/dev/null &
guard=$!
exec 3<&-
wait "$server"
status=$?
kill "$guard" 2>/dev/null
[ $# -eq 0 ] || rm -rf -- "$@"
exit "$status"
