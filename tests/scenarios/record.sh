#!/usr/bin/env bash
# Makes the recordings beside this file anew, from labs on this machine: record.sh TRACEPROBE [MODE…], those of the modes named or of
# all. Needs root, curl and zip. Each is named after its class; what follows the dot sets it apart. Afterwards read what changed in the
# verdicts, and run the scenario tests.
set -euo pipefail
traceprobe=$(realpath "${1:?the traceprobe executable}")
shift
modes=${*:-iptables nftables userspace}
cd "$(dirname "$0")"
lab=scenarios
TRACEPROBE_STATE=$(mktemp -d)
export TRACEPROBE_STATE TRACEPROBE_LAB=$lab
trap '"$traceprobe" lab down >/dev/null 2>&1 || true; rm -rf "$TRACEPROBE_STATE"' EXIT
name=http://my-nginx:8080 full=http://my-nginx.default.svc.cluster.local:8080 ipv4=http://10.96.0.159:8080 ipv6=http://[fd00:10:96::9f]:8080

up() { # mode; with a healthy baseline of pod ubuntu
    "$traceprobe" lab up --proxy "$1" >/dev/null
    "$traceprobe" baseline record healthy "$name" --from pod/ubuntu >/dev/null
}
trace() { # file, URL, place, options
    local file=$1.tprec url=$2 from=$3
    shift 3
    rm -f "$file"
    "$traceprobe" trace "$url" --from "$from" --timeout 1500ms --save "$file" "$@" >/dev/null 2>&1 || true
    [ -s "$file" ] || { echo "$file was not recorded" >&2; exit 1; }
}
curl() { # file, URL, place
    rm -f "$1.tprec"
    "$traceprobe" run --from "$3" --save "$1.tprec" -- curl -sS -o /dev/null --max-time 2 "$2" >/dev/null 2>&1 || true
    [ -s "$1.tprec" ] || { echo "$1.tprec was not recorded" >&2; exit 1; }
}
follow() { # file, place, command
    local file=$1.tprec from=$2
    shift 2
    rm -f "$file"
    "$traceprobe" run --from "$from" --save "$file" -- "$@" >/dev/null 2>&1 || true
    [ -s "$file" ] || { echo "$file was not recorded" >&2; exit 1; }
}
wanted() { [[ " $modes " == *" $1 "* ]]; }
broken() { "$traceprobe" lab mend >/dev/null && "$traceprobe" lab break $1 >/dev/null; } # the fault, with its variant
without() { # file, then what is taken out of it; its verdict is written by the tests, see below
    local file=$1.tprec
    shift
    zip -q -d "$file" "$@"
}

if wanted iptables; then
    up iptables
    trace healthy "$name" pod/ubuntu
    trace healthy.ipv4 "$ipv4" pod/ubuntu
    trace healthy.node "$ipv6" node/node-1
    trace healthy.musl "$full" pod/ubuntu --resolver musl
    trace healthy.packets "$name" pod/ubuntu --source libpcap
    curl healthy.curl "$name" pod/ubuntu
    for _ in {1..50}; do # each pod of the Service gets half of them, and one is on the other node
        trace healthy.other-node "$name" pod/ubuntu
        if "$traceprobe" replay healthy.other-node.tprec | grep -q 'node/node-2 *passes'; then break; fi
    done
    trace wrong-resolver.node "$full" node/node-1
    curl wrong-resolver.node-curl "$full" node/node-1
    trace service-not-found.misspelt http://my-ngnix:8080 pod/ubuntu
    trace port-not-in-service http://my-nginx:80 pod/ubuntu
    broken wrong-target-port
    trace wrong-target-port "$name" pod/ubuntu
    trace wrong-target-port.ipv4 "$ipv4" pod/ubuntu
    trace wrong-target-port.node "$ipv4" node/node-1
    trace wrong-target-port.packets "$name" pod/ubuntu --source libpcap
    curl wrong-target-port.curl "$name" pod/ubuntu
    broken wrong-labels
    trace selector-matches-nothing "$name" pod/ubuntu
    trace selector-matches-nothing.ipv4 "$ipv4" pod/ubuntu
    trace selector-matches-nothing.node "$ipv6" node/node-1
    curl selector-matches-nothing.curl "$name" pod/ubuntu
    broken not-ready
    trace no-ready-endpoints "$name" pod/ubuntu
    broken no-pods
    trace no-pods "$name" pod/ubuntu
    broken flush-rules
    trace proxy-rules-missing "$name" pod/ubuntu
    trace proxy-rules-missing.ipv4 "$ipv4" pod/ubuntu
    trace proxy-rules-missing.node "$ipv4" node/node-1
    curl proxy-rules-missing.curl "$name" pod/ubuntu
    trace undetermined "$ipv4" pod/ubuntu
    without undetermined cluster.json 'nodes/*'
    broken service-rule-missing
    trace service-rule-missing "$name" pod/ubuntu
    trace service-rule-missing.ipv4 "$ipv4" pod/ubuntu
    broken wrong-resolver
    trace wrong-resolver "$name" pod/ubuntu
    broken no-listener
    trace no-listener "$name" pod/ubuntu
    trace no-listener.node "$ipv4" node/node-1
    broken service-deleted
    trace service-not-found "$name" pod/ubuntu
    trace service-not-found.ipv4 "$ipv4" pod/ubuntu
    broken dropped-by-rule
    trace dropped-by-rule http://10.96.0.175 pod/ubuntu
    # As kube-proxy itself rejects for want of endpoints, but by somebody else.
    "$traceprobe" lab mend >/dev/null
    "$traceprobe" lab exec --on node-1 -- iptables-nft -I FORWARD -d 10.244.2.13/32 -j REJECT
    trace rejected-by-rule.port-unreachable http://10.96.0.175 pod/ubuntu
    "$traceprobe" lab exec --on node-1 -- iptables-nft -D FORWARD -d 10.244.2.13/32 -j REJECT
    # What an application sees of an answer that lacks its end, and of TLS on one side only; and what only looks like it.
    follow healthy.curl-head pod/ubuntu curl -sS -I -o /dev/null http://hostnames/big
    follow tls-mismatch.plain-server pod/ubuntu curl -sS -k -o /dev/null https://my-nginx:8080
    for behaviour in 'reset-by-peer --variant in-the-middle' response-stalled tls-mismatch; do
        broken "$behaviour"
        class=${behaviour%% *}
        [ "$class" = reset-by-peer ] && trace reset-by-peer.in-the-middle http://hostnames pod/ubuntu || trace "$class" http://hostnames pod/ubuntu
        curl "$class.curl" http://hostnames/big pod/ubuntu
        curl "$class.curl-small" http://hostnames pod/ubuntu
    done
    "$traceprobe" lab down >/dev/null
fi

if wanted nftables; then
    up nftables
    trace healthy.nftables "$name" pod/ubuntu
    trace healthy.nftables-node "$ipv4" node/node-1
    # What no chain of kube-proxy's is for, its chain cluster-ips-check rejects or drops.
    trace port-not-in-service.nftables http://my-nginx:80 pod/ubuntu
    broken wrong-target-port
    trace wrong-target-port.nftables "$name" pod/ubuntu
    broken wrong-labels
    trace selector-matches-nothing.nftables "$name" pod/ubuntu
    trace selector-matches-nothing.nftables-node "$ipv6" node/node-1
    broken flush-rules
    trace proxy-rules-missing.nftables "$name" pod/ubuntu
    broken service-rule-missing
    trace service-rule-missing.nftables "$ipv4" pod/ubuntu
    trace service-rule-missing.nftables-node "$ipv6" node/node-1
    broken service-deleted
    trace service-not-found.nftables "$ipv4" pod/ubuntu
    "$traceprobe" lab down >/dev/null
fi

if wanted userspace; then
    up userspace
    cp "/run/traceprobe/labs/$lab/cluster.json" "$TRACEPROBE_STATE/healthy.json"
    trace healthy.userspace "$name" pod/ubuntu
    broken wrong-target-port
    trace wrong-target-port.userspace "$name" pod/ubuntu
    trace wrong-target-port.userspace-node "$ipv4" node/node-1
    curl wrong-target-port.userspace-curl "$name" pod/ubuntu
    trace proxy-dial-refused "$ipv4" pod/ubuntu
    without proxy-dial-refused cluster.json
    broken wrong-labels
    trace selector-matches-nothing.userspace "$name" pod/ubuntu
    curl selector-matches-nothing.userspace-curl "$name" pod/ubuntu
    # What the API said before the pods were relabelled: kube-proxy knows no endpoint, and nobody told the operator.
    trace proxy-closed-no-backend "$name" pod/ubuntu --lab "$lab" --cluster "$TRACEPROBE_STATE/healthy.json"
    broken no-listener
    trace no-listener.userspace "$name" pod/ubuntu
    broken flush-rules
    trace proxy-rules-missing.userspace "$ipv4" pod/ubuntu
fi

ls -s --block-size=1 ./*.tprec | awk '$1 > 150000 { print $2 " is larger than 150 kB"; wrong = 1 } END { exit wrong }'
echo "Now: TRACEPROBE_ACCEPT_VERDICTS=1 dotnet test tests/TraceProbe.Core.Tests --filter ScenarioTests, and once more without."
