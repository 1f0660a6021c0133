#!/usr/bin/env bash
# The demonstration: a healthy request and the failures that people meet first, each followed through a real kernel from the DNS
# query to the pod, explained, mended as the verdict says, and followed again. Ends with an error if one verdict is wrong.
set -euo pipefail
cd "$(dirname "$0")/.."
traceprobe=$PWD/${1:-artifacts/traceprobe/traceprobe}

if [ "$(id -u)" -ne 0 ]; then
    echo "The lab is made of network namespaces and eBPF programs, which need root: run 'sudo make demo'." >&2
    exit 4
fi

lab=demo-$$ work=$(mktemp -d)
export TRACEPROBE_STATE=$work/state
cleanup() {
    "$traceprobe" lab down --name "$lab" >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

url=http://my-nginx:8080 full=http://my-nginx.default.svc.cluster.local:8080
wrong=0 table=()
color=never
[ ! -t 1 ] || color=always

say() { printf '\n\033[1m%s\033[0m\n\n' "$*" | { [ "$color" = always ] && cat || sed 's/\x1b\[[0-9;]*m//g'; }; }
field() { # name of a string in the verdict of $work/report.json
    sed -n '/^  "verdict": {/,/^  },*$/p' "$work/report.json" | sed -nE "s/^ +\"$1\": \"(.*)\",?$/\1/p" | head -1
}
text() { # undo JSON's escapes
    printf '%b' "$(sed -E 's/\\u([0-9a-fA-F]{4})/\\u\1/g; s/\\"/"/g; s/%/%%/g; s/%%/%/g' <<<"$1")"
}
follow() { # class expected, object expected, words for the table, then what to trace
    local class=$1 object=$2 words=$3 got=ok
    shift 3
    rm -f "$work/last.tprec"
    "$traceprobe" trace "$@" --lab "$lab" --timeout 3s --color "$color" --save "$work/last.tprec" || true
    "$traceprobe" replay "$work/last.tprec" -o json >"$work/report.json" || true
    [ "$(field class)" = "$class" ] && grep -q "\"name\": \"$object\"" "$work/report.json" || { got=WRONG wrong=1; }
    table+=("$(printf '%-34s %-26s %s' "$words" "$(field class)" "$got")")
}
mend() { # as the verdict says
    local command on
    command=$(text "$(field command)") on=$(field on)
    say "Mending it as the verdict says: $command${on:+   (on $on)}"
    "$traceprobe" lab exec --name "$lab" ${on:+--on "$on"} "$command" || wrong=1
}
fails() { # words, fault, class, object, what to trace
    local words=$1 fault=$2 class=$3 object=$4
    shift 4
    say "── $words ──"
    [ "$fault" = - ] || "$traceprobe" lab break "$fault" --name "$lab" --color "$color"
    follow "$class" "$object" "$words" "$@"
    mend
    follow healthy my-nginx "   then mended" "$@" >/dev/null 2>&1
    [ "$fault" = - ] || "$traceprobe" lab mend --name "$lab" >/dev/null
}

say "A small cluster: two nodes, two nginx pods behind a Service, a DNS server, kube-proxy's rules in iptables mode"
"$traceprobe" lab up --name "$lab" --color "$color"
say "── A healthy request, kept as the baseline ──"
follow healthy my-nginx "healthy" "$url" --from pod/ubuntu
"$traceprobe" baseline record ubuntu-to-my-nginx "$url" --from pod/ubuntu --lab "$lab"
fails "1. wrong port" wrong-target-port wrong-target-port my-nginx "$url" --from pod/ubuntu
fails "2. wrong labels" wrong-labels selector-matches-nothing my-nginx "$url" --from pod/ubuntu
fails "3. flushed rules" flush-rules proxy-rules-missing node-1 "$url" --from pod/ubuntu
fails "4. the host asks another resolver" - wrong-resolver node-1 "$full" --from node/node-1
"$traceprobe" lab down --name "$lab"

say "Two of them again, as current nodes have them: kube-proxy in nftables mode"
"$traceprobe" lab up --name "$lab" --proxy nftables --color "$color"
fails "2. wrong labels, nftables" wrong-labels selector-matches-nothing my-nginx "$url" --from pod/ubuntu
fails "3. flushed rules, nftables" flush-rules proxy-rules-missing node-1 "$url" --from pod/ubuntu
"$traceprobe" lab down --name "$lab"

say "The first two again, as they were in 2015: kube-proxy in userspace mode"
"$traceprobe" lab up --name "$lab" --proxy userspace --color "$color"
fails "1. wrong port, userspace" wrong-target-port wrong-target-port my-nginx "$url" --from pod/ubuntu
fails "2. wrong labels, userspace" wrong-labels selector-matches-nothing my-nginx "$url" --from pod/ubuntu

say "What was seen"
printf '  %-34s %-26s %s\n' request verdict ""
printf '  %s\n' "${table[@]}"
echo
if [ "$wrong" -ne 0 ]; then
    echo "A verdict or a mend was wrong." >&2
    exit 1
fi
echo "Every verdict was right, and every mend mended."
