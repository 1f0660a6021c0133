# syntax=docker/dockerfile:1
# The program with what it needs on a node. With an engine that has buildx, from the top of the checkout:
#   docker buildx build --load -t traceprobe:0.1.0 .                                                     # for this machine
#   docker buildx build --platform linux/amd64,linux/arm64 -t registry.example.org/traceprobe:0.1.0 --push .
#
# Both stages are Ubuntu 24.04: .NET 10 has no images with Debian. Packages are called as there, but for libpcap0.8t64, which is Debian's libpcap0.8.

# Runs on the machine that builds, whatever it builds for: the compilers of C# and of BPF both write for other processors. The BPF programs are the same for all:
# they find the kernel's structures by its BTF when they are loaded, and bpf/types.h holds what of them is used.
FROM --platform=$BUILDPLATFORM mcr.microsoft.com/dotnet/sdk:10.0-noble AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends clang llvm libbpf-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY Directory.Build.props Directory.Build.targets Directory.Packages.props ./
COPY bpf bpf
COPY src src
# amd64 or arm64.
ARG TARGETARCH
RUN dotnet publish src/TraceProbe.Cli -c Release -a $TARGETARCH -p:TraceProbeReadyToRun=true -o /traceprobe

FROM mcr.microsoft.com/dotnet/aspnet:10.0-noble
# libbpf1 loads the programs; libpcap captures where bpf(2) is refused, and reads captures. The others print a node's rules and routes: nothing is set with them.
RUN apt-get update \
 && apt-get install -y --no-install-recommends libbpf1 libpcap0.8t64 iproute2 iptables nftables ipset \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /traceprobe /opt/traceprobe
RUN ln -s /opt/traceprobe/traceprobe /usr/local/bin/traceprobe
# The runtime's own sockets for debuggers, in /tmp, are not wanted in a root process of a node.
ENV DOTNET_EnableDiagnostics=0
# For replay, check --rules, classes and whatever else needs no privileges. The agent has to be root, and deploy/base/daemonset.yaml says so: a container that is not
# gets none of the capabilities that are added to it, and file capabilities do not hold under allowPrivilegeEscalation: false.
USER $APP_UID
ENTRYPOINT ["traceprobe"]
