#!/bin/sh
# Two workers on two machines that are two namespaces of this one (own network, own shared memory), joined by a
# virtual cable; without the right to make them, or with --local, on two local nodes at 127.0.0.1.
#
#   tests/parallel/two_hosts.sh [--local]                      averages a few tensors over both, and checks them
#   tests/parallel/two_hosts.sh [--local] latte train ...      runs that on both, as --node-rank 0 and 1
#
# Needs iproute2 and util-linux (unshare, nsenter). PYTHON: the interpreter, else `python`; PORT: where they meet.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
export PYTHON="${PYTHON:-python}" PORT="${PORT:-18118}"

node() { # node RANK [COMMAND...], with ADDRESS and WORK set
    rank=$1
    shift
    if [ $# -gt 0 ]; then
        exec "$@" --parallel 1 --nodes 2 --node-rank "$rank" --master-addr "$ADDRESS" --master-port "$PORT"
    fi
    exec "$PYTHON" "$here/start.py" "{\"workers\": 1, \"nodes\": 2, \"node_rank\": $rank,
        \"master_addr\": \"$ADDRESS\", \"master_port\": $PORT}" \
        "$WORK/logs$rank" "$here/program.py" average "$WORK"
}

check() {
    "$PYTHON" - "$WORK" <<'CHECK'
import sys
import numpy as np
shapes = (3, 5), (7,), (2, 2, 2)
workers = [np.random.default_rng(rank) for rank in (0, 1)]
wanted = [sum(own.standard_normal(s).astype(np.float32).astype(float) for own in workers) / 2 for s in shapes]
for rank in (0, 1):
    found = np.load(f"{sys.argv[1]}/means_{rank}.npz")
    assert all(np.abs(found[name] - mean).max() < 1e-6 for name, mean in zip(found, wanted)), rank
print("the averages of both machines are right")
CHECK
}

place=namespaces
case "${1:-}" in
--node)
    shift
    node "$@"
    ;;
--local | --inside)
    place=${1#--}
    shift
    ;;
esac
if [ $place = namespaces ]; then
    if command -v ip nsenter >/dev/null && unshare --map-root-user --net --mount true 2>/dev/null; then
        exec unshare --map-root-user --net --mount "$0" --inside "$@"
    fi
    echo "no namespaces here: two local nodes instead" >&2
    place=local
fi

WORK=$(mktemp -d)
export WORK ADDRESS=127.0.0.1
other= on_other=
trap 'if [ -n "$other" ]; then kill "$other"; fi; rm -rf "$WORK"' EXIT
if [ $place = inside ]; then
    ADDRESS=10.77.0.1
    unshare --net --mount sh -c 'mount -t tmpfs none /dev/shm && touch "$WORK/up" && exec sleep 86400' &
    other=$!
    until [ -e "$WORK/up" ]; do sleep 0.1; done
    on_other="nsenter --net=/proc/$other/ns/net --mount=/proc/$other/ns/mnt --wd=$PWD"
    ip link add left type veth peer name right
    ip link set right netns "$other"
    ip address add $ADDRESS/24 dev left
    ip link set left up
    ip link set lo up
    $on_other ip address add 10.77.0.2/24 dev right
    $on_other ip link set right up
    $on_other ip link set lo up
fi

$on_other "$here/two_hosts.sh" --node 1 "$@" &
second=$!
status=0
"$here/two_hosts.sh" --node 0 "$@" || status=$?
wait $second || status=$?
if [ $status -eq 0 ] && [ $# -eq 0 ]; then check; fi
exit $status
