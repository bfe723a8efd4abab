#!/bin/sh
# Collects into the file it is given, until it is told to stop. Run by `hamaster elect` on the leader.
#
# HAMASTER_TOKEN rises from one leader to the next. Who writes where an earlier leader could still write (it may have
# been frozen) sends the token along and lets the other side refuse a lower one; here it just goes into each line.
set -eu
log=${1:?usage: collector.sh FILE}
trap 'echo "$HAMASTER_TOKEN stopped" >>"$log"; exit 0' TERM INT
echo "$HAMASTER_TOKEN started" >>"$log"
while :; do
    echo "$HAMASTER_TOKEN collected" >>"$log"
    # In the background: a shell answers a signal only between two commands, and `wait` it interrupts.
    sleep 1 &
    wait $!
done
