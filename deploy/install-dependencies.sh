#!/usr/bin/env bash
# Installs from Debian what building, running and testing TraceProbe needs and this machine lacks. Quick when nothing is missing.
#   install-dependencies.sh [kernels]      with "kernels", also what tests/kernels needs
set -euo pipefail

missing=() reasons=()
need() { # package, reason, then a test that succeeds when it is there
    local package=$1 reason=$2
    shift 2
    if ! "$@" >/dev/null 2>&1; then
        missing+=("$package")
        reasons+=("  $package: $reason")
    fi
}
tool() { PATH=$PATH:/usr/sbin:/sbin command -v "$1"; }
library() { /sbin/ldconfig -p | grep -q "$1"; }
header() { test -e "$1"; }
any() { local name; for name in "$@"; do tool "$name" && return; done; return 1; }

# Debian's clang is of another version in each release; 16 is what bookworm has for BPF.
clang=clang-16
apt-cache show clang-16 >/dev/null 2>&1 || clang=clang
need "$clang" "compiles the programs in bpf/" any clang-16 clang-17 clang-18 clang-19 clang-20
need libbpf-dev "their headers" header /usr/include/bpf/bpf_helpers.h
need libbpf1 "loads them" library libbpf.so.1
need libpcap0.8 "captures packets where eBPF is refused" library libpcap.so.0.8
need iproute2 "the lab's namespaces; routes of a node" tool ip
need iptables "the lab's rules; rules of a node" tool iptables-save
need nftables "which tables a node has" tool nft
need ipset "the lab in IPVS mode" tool ipset
need ipvsadm "the lab in IPVS mode" tool ipvsadm
need conntrack "the lab's connection tracking" tool conntrack
need dnsmasq-base "the lab's DNS servers" tool dnsmasq
need nginx-light "the lab's web servers" tool nginx
need kubernetes-client "kubectl, against the lab and clusters" tool kubectl
need curl "the lab's client" tool curl
need util-linux "the lab's pods" tool unshare
need procps "processes and sysctls" tool ps
need tcpdump "tests: another reader of what is on the wire" tool tcpdump
need tshark "tests: another reader of the captures written" tool tshark
need prometheus-alertmanager "tests: the receiver of an agent's alerts" tool prometheus-alertmanager
need musl-tools "tests: musl's resolver, to compare with" tool musl-gcc
if [ "${1:-}" = kernels ]; then
    need qemu-system-x86 "kernels: the emulated machine" tool qemu-system-x86_64
    need busybox-static "kernels: its small tools" tool busybox
    need cpio "kernels: its file system" tool cpio
    need kmod "kernels: its modules" tool depmod
    need xz-utils "kernels: its modules" tool xz
    need ipvsadm "kernels: IPVS" tool ipvsadm
    need ipset "kernels: IPVS mode's sets" tool ipset
fi

if [ ${#missing[@]} -eq 0 ]; then
    exit 0
fi

echo "TraceProbe needs from Debian:"
printf '%s\n' "${reasons[@]}"
if [ "$(id -u)" -ne 0 ]; then
    echo "Installing them needs root: run 'sudo make deps', or: apt-get install ${missing[*]}" >&2
    exit 1
fi

# Nothing that gets installed is to start as a service: the lab runs its own servers in its own namespaces.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
fi

export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
echo "Installed: ${missing[*]}"
