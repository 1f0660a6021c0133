#!/usr/bin/env bash
# Boots Debian's own kernels in emulated machines (no KVM: it may not be there, and must not be needed) and runs inside of each what
# `init` beside this file lists: the eBPF programs, the readers of kernel tables, and the lab in every mode of kube-proxy.
#
#   tests/kernels/run.sh [SUITE…]        bookworm (6.1), trixie (6.12) and bullseye (5.10) without one
#
# Kernels are downloaded once, through the machine's own package source, into artifacts/kernels, and nothing of them is installed.
# What each machine said is in artifacts/kernels/SUITE.log; files that it handed out (rule dumps, recordings) in artifacts/kernels/SUITE.out.
# The README's table is made from those logs, between its two marks; a kernel that was not booted keeps what its last log says.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=$PWD/artifacts/kernels
minutes=${TRACEPROBE_KERNEL_MINUTES:-20}
[ $# -gt 0 ] || set -- bookworm trixie bullseye
mkdir -p "$out"

# A package source for one suite: the one this machine installs from, under another suite's name, with folders of its own.
apt_of() { # suite
    local folder=$out/apt/$1
    if [ ! -e "$folder/apt.conf" ]; then
        local source keys=/usr/share/keyrings/debian-archive-keyring.gpg
        source=$(apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' 'Label: Debian' 'Component: main' | sort -u | head -1)
        if [ -z "$source" ]; then
            echo "This machine knows no Debian package source; run 'apt-get update', or put a kernel into $out/$1 by hand (vmlinuz and lib/modules)." >&2
            return 1
        fi
        mkdir -p "$folder/state/lists/partial" "$folder/cache/archives/partial"
        echo "deb $([ ! -e "$keys" ] || echo "[signed-by=$keys]") $source $1 main" >"$folder/sources.list"
        cat >"$folder/apt.conf.new" <<CONF
Dir::State "$folder/state";
Dir::State::status "/dev/null";
Dir::Cache "$folder/cache";
Dir::Etc::sourcelist "$folder/sources.list";
Dir::Etc::sourceparts "-";
APT::Architecture "amd64";
APT::Architectures { "amd64"; };
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
CONF
        mv "$folder/apt.conf.new" "$folder/apt.conf"
    fi
    echo "$folder/apt.conf"
}

# Debian's cloud flavour: small, and with all of netfilter. It leaves out hardware that an emulated machine has not either.
fetch() { # suite
    local folder=$out/$1 conf package
    [ ! -e "$folder/vmlinuz" ] || return 0
    conf=$(apt_of "$1")
    APT_CONFIG=$conf apt-get update -qq
    package=$(APT_CONFIG=$conf apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: *//p' | head -1)
    rm -rf "$folder.new"
    mkdir -p "$folder.new/package"
    (cd "$folder.new" && APT_CONFIG=$conf apt-get download -qq "$package")
    dpkg-deb --fsys-tarfile "$folder.new"/*.deb | tar -x -C "$folder.new/package"
    mv "$folder.new"/package/boot/vmlinuz-* "$folder.new/vmlinuz"

    # Since trixie modules are in /usr/lib and compressed.
    local modules release
    modules=$(echo "$folder.new"/package/lib/modules/* "$folder.new"/package/usr/lib/modules/* | tr ' ' '\n' | grep -v '\*' | head -1)
    release=$(basename "$modules")
    local to=$folder.new/modules/usr/lib/modules/$release
    mkdir -p "$to"
    cp "$modules"/modules.{builtin,builtin.modinfo,order} "$to"
    (cd "$modules" && find kernel/net kernel/lib kernel/crypto kernel/arch kernel/drivers/net/dummy.ko* kernel/drivers/net/veth.ko* -name '*.ko*' | cpio -pdm --quiet "$to")
    find "$to" -name '*.ko.xz' -exec xz -d {} +
    mkdir -p "$folder.new/modules/lib"
    ln -s ../usr/lib/modules "$folder.new/modules/lib/modules"
    depmod -b "$folder.new/modules" "$release"
    rm -r "$folder.new/modules/lib" "$folder.new/package"
    (cd "$folder.new/modules" && find . | cpio -o -H newc --quiet -R 0:0) >"$folder.new/modules.cpio"
    rm -rf "$folder.new/modules" "$folder"
    mv "$folder.new" "$folder"
}

# The machine's file system: this one's tools with what they link to, the .NET runtime, the program and the tests.
root=$out/root
put() { # a file or link, under the same path; links with what they lead to
    local path=$1 target
    [ -e "$root$path" ] || [ -L "$root$path" ] || {
        mkdir -p "$root$(dirname "$path")"
        cp -P "$path" "$root$path"
    }
    if [ -L "$path" ]; then
        target=$(readlink "$path")
        [[ $target = /* ]] || target=$(dirname "$path")/$target
        put "$(realpath -s "$target")"
    fi
}
put_with_libraries() { # ELF files
    local file library
    for file in "$@"; do
        put "$file"
        for library in $(ldd "$file" 2>/dev/null | grep -oE '/[^ )]+'); do
            put "$library"
        done
    done
}
tool() { PATH=$PATH:/usr/sbin:/sbin command -v "$1"; }
build_root() {
    rm -rf "$root"
    mkdir -p "$root"/{proc,sys,dev,tmp,run,root,etc,usr/bin,usr/sbin,usr/lib,usr/lib64,var/lib/nginx,var/log/nginx}
    local name
    for name in bin sbin lib lib64; do
        ln -s "usr/$name" "$root/$name"
    done

    for name in ip bridge ss nft iptables-legacy iptables-nft ip6tables-legacy ip6tables-nft iptables-legacy-{save,restore} iptables-nft-{save,restore} \
        ip6tables-legacy-{save,restore} ip6tables-nft-{save,restore} iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore \
        ipvsadm ipvsadm-save ipset conntrack dnsmasq nginx curl unshare nsenter setsid mount umount sh bash sleep sysctl timeout modprobe tar gzip cp; do
        put_with_libraries "$(realpath -s "$(tool "$name")")"
        put_with_libraries "$(readlink -f "$(tool "$name")")"
    done
    put_with_libraries "$(dirname "$(ldconfig -p | grep -m1 -o '/.*libxtables.so.*')")"/xtables/*.so
    for name in libbpf.so.1 libpcap.so.0.8 libssl.so.3 libgcc_s.so.1 libstdc++.so.6; do
        put_with_libraries "$(ldconfig -p | grep -m1 -oE "/.*/${name//+/\\+}$")"
    done
    put "$(tool busybox)"
    for name in $(busybox --list); do
        [ -e "$root/usr/bin/$name" ] || [ -L "$root/usr/bin/$name" ] || [ -e "$root/usr/sbin/$name" ] || [ -L "$root/usr/sbin/$name" ] || ln -s busybox "$root/usr/bin/$name"
    done
    for name in passwd group nsswitch.conf protocols services ethertypes iproute2; do
        [ ! -e "/etc/$name" ] || cp -rL "/etc/$name" "$root/etc/$name"
    done

    local dotnet version framework
    dotnet=$(dirname "$(readlink -f "$(tool "${DOTNET:-dotnet}")")")
    version=$("$dotnet/dotnet" --list-runtimes | sed -n 's/^Microsoft.NETCore.App \(10[^ ]*\).*/\1/p' | tail -1)
    mkdir -p "$root/usr/share/dotnet/host/fxr"
    cp "$dotnet/dotnet" "$root/usr/share/dotnet/"
    cp -r "$dotnet/host/fxr/$version" "$root/usr/share/dotnet/host/fxr/"
    for framework in Microsoft.NETCore.App Microsoft.AspNetCore.App; do
        mkdir -p "$root/usr/share/dotnet/shared/$framework"
        cp -r "$dotnet/shared/$framework/$version" "$root/usr/share/dotnet/shared/$framework/"
    done
    put_with_libraries "$dotnet/dotnet" "$dotnet/shared/Microsoft.NETCore.App/$version"/*.so
    ln -s ../share/dotnet/dotnet "$root/usr/bin/dotnet"

    cp -r artifacts/traceprobe "$root/traceprobe"
    for name in Capture Cluster Lab; do
        cp -r "tests/TraceProbe.$name.Tests/bin/${CONFIGURATION:-Release}/net10.0" "$root/tests.$name"
    done
    cp tests/kernels/{init,checks} "$root/"
    chmod 755 "$root/init"
    (cd "$root" && find . | cpio -o -H newc --quiet -R 0:0) >"$out/root.cpio"
    rm -rf "$root"
}

# An old processor is enough for .NET, and leaves the emulator less to get wrong. QEMU 7.2 leaves rubbish in the flags after cmpxchg16b, which the
# memory allocator of 6.12 uses: the kernel and programs crashed at random until it was kept from it.
boot() { # suite; everything that it says goes to its log
    local folder=$out/$1 without=
    [ "$1" != trixie ] || without=clearcpuid=cx16
    cat "$out/root.cpio" "$folder/modules.cpio" >"$folder/initramfs"
    timeout --kill-after=10 "$((minutes * 60))" qemu-system-x86_64 -accel tcg,thread=multi -machine pc -cpu Nehalem -smp 2 -m 3G \
        -nodefaults -display none -no-reboot -serial stdio -serial "file:$folder/out.tar.gz" \
        -kernel "$folder/vmlinuz" -initrd "$folder/initramfs" \
        -append "console=ttyS0 quiet panic=-1 mitigations=off $without init=/init rdinit=/init" </dev/null >"$out/$1.log" 2>&1 &
    machine=$!
    wait $machine
}
# Who interrupts this wants no machine left.
machine=
trap '[ -z "$machine" ] || kill "$machine" 2>/dev/null || true' EXIT
trap 'exit 130' INT TERM

# A row of the README's table for each of: what it says | the checks that must have passed for it.
rows() {
    cat <<'ROWS'
eBPF programs load and see what they should|bpf-programs
lab with `iptables-legacy`: healthy and `wrong-target-port` told|iptables-legacy: lab;iptables-legacy: healthy;iptables-legacy: wrong-target-port
lab with `iptables-nft`: the same|iptables-nft: lab;iptables-nft: healthy;iptables-nft: wrong-target-port
lab with `nftables`: the same|nftables: lab;nftables: healthy;nftables: wrong-target-port
lab with `ipvs`: healthy told|ipvs: lab;ipvs: healthy
lab with `ipvs`: `wrong-target-port`, `selector-matches-nothing`, `proxy-rules-missing`, `wrong-resolver` told|ipvs: wrong-target-port;ipvs: wrong-labels;ipvs: flush-rules;ipvs: wrong-resolver
lab with `ipvs`: `check`, healthy and with a virtual server deleted|ipvs: check;ipvs: check without a virtual server
IPVS without real servers refuses pods and the node itself, IPv4 and IPv6|ipvs: refusal
ROWS
}
cell() { # suite, checks; the worst of them
    local log=$out/$1.log checks check found=yes
    IFS=';' read -ra checks <<<"$2"
    for check in "${checks[@]}"; do
        if grep -qsF "check: $check FAILED" "$log"; then
            found=no
            break
        fi
        grep -qsF "check: $check ok" "$log" || found="not run"
    done
    echo "$found"
}
write_table() {
    local table text checks
    table="| | 5.10 (bullseye) | 6.1 (bookworm) | 6.12 (trixie) |"$'\n'"|---|---|---|---|"
    while IFS='|' read -r text checks; do
        table+=$'\n'"| $text | $(cell bullseye "$checks") | $(cell bookworm "$checks") | $(cell trixie "$checks") |"
    done < <(rows)
    TABLE=$table awk '/<!-- kernels -->/ { print; print ENVIRON["TABLE"]; skip = 1; next } /<!-- \/kernels -->/ { skip = 0 } !skip' README.md >README.md.new
    mv README.md.new README.md
}

echo "Making a file system for the machines"
build_root
failed=0
for suite in "$@"; do
    echo "== $suite"
    fetch "$suite"
    started=$SECONDS
    boot "$suite" || echo "   the machine did not end by itself (exit code $?)"
    # The console ends its lines with CR LF.
    sed -n 's/\r*$//; s/^check: /   /p' "$out/$suite.log"
    rm -rf "$out/$suite.out"
    mkdir -p "$out/$suite.out"
    tar -xzf "$out/$suite/out.tar.gz" -C "$out/$suite.out" 2>/dev/null || true
    rm -f "$out/$suite/initramfs" "$out/$suite/out.tar.gz"
    if ! grep -q '^check: end' "$out/$suite.log"; then
        echo "   FAILED: $suite did not come to its end; see $out/$suite.log" >&2
        failed=1
    elif grep -q '^check: .*FAILED' "$out/$suite.log"; then
        failed=1
    fi
    echo "   $((SECONDS - started)) s"
done
write_table
exit $failed
