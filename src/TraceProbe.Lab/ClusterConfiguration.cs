using System.Collections.Immutable;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Lab;

/// <summary>The ConfigMaps that kubeadm leaves in kube-system, in its form, filled in as this cluster is: what its kube-proxies are told, and CoreDNS's Corefile.</summary>
internal static class ClusterConfiguration
{
    /// <summary>What is in <c>coredns</c> (kubeadm, app/phases/addons/dns/manifests.go).</summary>
    internal static ConfigMap CoreDns { get; } = Map("coredns", [], ("Corefile", $$"""
        .:53 {
            errors
            health {
               lameduck 5s
            }
            ready
            kubernetes {{LabLayout.ClusterDomain}} in-addr.arpa ip6.arpa {
               pods insecure
               fallthrough in-addr.arpa ip6.arpa
               ttl 30
            }
            prometheus :9153
            forward . /etc/resolv.conf {
               max_concurrent 1000
            }
            cache 30 {
               disable success {{LabLayout.ClusterDomain}}
               disable denial {{LabLayout.ClusterDomain}}
            }
            loop
            reload
            loadbalance
        }

        """));

    /// <summary>What is in <c>kube-proxy</c> (kubeadm, app/phases/addons/proxy). Empty means the default.</summary>
    internal static ConfigMap OfKubeProxy(ProxyMode mode) => Map("kube-proxy", [("app", "kube-proxy")], ("config.conf", $$"""
        apiVersion: kubeproxy.config.k8s.io/v1alpha1
        bindAddress: 0.0.0.0
        bindAddressHardFail: false
        clientConnection:
          acceptContentTypes: ""
          burst: 0
          contentType: ""
          kubeconfig: /var/lib/kube-proxy/kubeconfig.conf
          qps: 0
        clusterCIDR: {{LabLayout.ClusterCidrIPv4}},{{LabLayout.ClusterCidrIPv6}}
        configSyncPeriod: 0s
        conntrack:
          maxPerCore: null
          min: null
          tcpBeLiberal: false
          tcpCloseWaitTimeout: null
          tcpEstablishedTimeout: null
          udpStreamTimeout: 0s
          udpTimeout: 0s
        detectLocal:
          bridgeInterface: ""
          interfaceNamePrefix: ""
        detectLocalMode: ""
        enableProfiling: false
        healthzBindAddress: ""
        hostnameOverride: ""
        iptables:
          localhostNodePorts: null
          masqueradeAll: false
          masqueradeBit: null
          minSyncPeriod: 0s
          syncPeriod: 0s
        ipvs:
          excludeCIDRs: null
          minSyncPeriod: 0s
          scheduler: ""
          strictARP: false
          syncPeriod: 0s
          tcpFinTimeout: 0s
          tcpTimeout: 0s
          udpTimeout: 0s
        kind: KubeProxyConfiguration
        logging:
          flushFrequency: 0
          options:
            json:
              infoBufferSize: "0"
            text:
              infoBufferSize: "0"
          verbosity: 0
        metricsBindAddress: ""
        mode: "{{KubeProxy.WordOf(mode)}}"
        nftables:
          masqueradeAll: false
          masqueradeBit: null
          minSyncPeriod: 0s
          syncPeriod: 0s
        nodePortAddresses: null
        oomScoreAdj: null
        portRange: ""
        showHiddenMetricsForVersion: ""
        winkernel:
          enableDSR: false
          forwardHealthCheckVip: false
          networkName: ""
          rootHnsEndpointName: ""
          sourceVip: ""
        """), ("kubeconfig.conf", $"""
        apiVersion: v1
        kind: Config
        clusters:
        - cluster:
            certificate-authority: /var/run/secrets/kubernetes.io/serviceaccount/ca.crt
            server: https://{LabLayout.Nodes[0].IPv4}:6443
          name: default
        contexts:
        - context:
            cluster: default
            namespace: default
            user: default
          name: default
        current-context: default
        users:
        - name: default
          user:
            tokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token
        """));

    private static ConfigMap Map(string name, (string, string)[] labels, params ReadOnlySpan<(string Name, string Text)> files)
    {
        var data = ImmutableSortedDictionary.CreateBuilder<string, string>(StringComparer.Ordinal);
        foreach (var (file, text) in files)
        {
            data.Add(file, text);
        }

        return new ConfigMap { Metadata = new ObjectMeta { Name = name, Namespace = "kube-system", Labels = LabObjects.Labels(labels) }, Data = data.ToImmutable() };
    }
}
