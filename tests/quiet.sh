#!/usr/bin/env bash
# Makes a number of healthy connections through Services of a lab, in pods and on both nodes, IPv4 and IPv6, each with a connection of its own, while an agent watches;
# each is to be answered, and none to be anything else than healthy. quiet.sh TRACEPROBE [CONNECTIONS]. Needs root and curl. What the agent lost is shown.
set -euo pipefail
traceprobe=$(realpath "${1:?the traceprobe executable}")
wanted=${2:-200000}
lab=quiet$$
folder=$(mktemp -d)
agent=
finish() {
    [ -z "$agent" ] || kill -TERM "$agent" 2>/dev/null || true
    "$traceprobe" lab down --name "$lab" >/dev/null 2>&1 || true
    rm -rf "$folder"
}
trap finish EXIT
"$traceprobe" lab up --name "$lab" >/dev/null
"$traceprobe" agent --lab "$lab" --state "$folder/state" 2>"$folder/agent.log" >&2 &
agent=$!
for _ in $(seq 100); do grep -q watching "$folder/agent.log" && break; sleep 0.2; done
grep -q watching "$folder/agent.log" || { cat "$folder/agent.log" >&2; exit 1; }

# Eight clients at once, each with its share; what curl could not get, it counts.
ask() { # place, URL
    local share=$((wanted / 8)) got
    got=$(timeout 1800 "$traceprobe" lab exec --name "$lab" --on "$1" -- sh -c "curl -sS -H 'Connection: close' --parallel --parallel-max 2 -o /dev/null -w '%{http_code}\\n' '$2/?[1-$share]' 2>/dev/null | grep -c '^200$'; true" 2>"$folder/errors.$3")
    echo "$got" >"$folder/got.$3"
}
started=$(date +%s)
n=0
clients=()
for place in pod/ubuntu pod/my-nginx-tsyps node/node-1 node/node-2; do
    for url in http://10.96.0.175 'http://[fd00:10:96::af]'; do
        n=$((n + 1))
        ask "$place" "$url" "$n" &
        clients+=($!)
    done
done
wait "${clients[@]}"
seconds=$(($(date +%s) - started))

# A connection whose end was not seen is told about once it has been quiet for a while.
count() { awk -v outcome="$1" '/^traceprobe_connections_total/ && index($0, "outcome=\"" outcome "\"") { n += $NF } END { print n + 0 }' <<<"$counts"; }
for _ in $(seq 20); do
    sleep 1
    counts=$(curl -sS --unix-socket "$folder/state/agent.sock" http://agent/metrics)
    [ $(($(count healthy) + $(count undetermined) + $(count failed))) -lt $((wanted / 8 * 8)) ] || break
done
cpu=$(awk '{ print ($14 + $15) / 100 }' "/proc/$agent/stat")
resident=$(awk '/VmHWM/ { print int($2 / 1024) }' "/proc/$agent/status")
kill -TERM "$agent"
wait "$agent" || true
agent=
got=$(cat "$folder"/got.* | awk '{ n += $1 } END { print n }')
echo "$got of $wanted connections answered in $seconds s; the agent took $cpu s of CPU, at most $resident MB; it said:"
grep -vE 'watching|learnt' "$folder/agent.log" | tail -15
head -qn 2 "$folder"/errors.* | sort | uniq -c | sort -rn | head -5
alerts=$(grep -cE 'opened ' "$folder/agent.log" || true)
healthy=$(count healthy)
undetermined=$(count undetermined)
failed=$(count failed)
echo "$alerts alerts; $healthy attempts were told as healthy, $undetermined as undetermined, $failed as failed"
asked=$((wanted / 8 * 8))
[ "$alerts" -eq 0 ] && [ "$undetermined" -eq 0 ] && [ "$failed" -eq 0 ] && [ "$got" -eq "$asked" ] && [ "$healthy" -eq "$asked" ]
