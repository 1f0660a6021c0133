using System.Text;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Cluster.Tests;

public sealed class SnapshotReaderTests
{
    private const string Service = """{"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":"shop"},"spec":{"clusterIP":"10.96.0.1","ports":[{"port":80,"targetPort":"9376"}]}}""";

    private static ClusterSnapshot Read(string text, string name = "objects.json")
    {
        var reader = new SnapshotReader();
        reader.Add(name, Encoding.UTF8.GetBytes(text));
        return reader.ToSnapshot();
    }

    [Fact]
    public void ObjectsSavedByPowerShell_AreRead()
    {
        var reader = new SnapshotReader();
        reader.Add("services.json", (byte[])[.. Encoding.Unicode.Preamble, .. Encoding.Unicode.GetBytes(Service)]);
        reader.ToSnapshot().Services.ShouldHaveSingleItem().Metadata.Name.ShouldBe("web");
    }

    [Fact]
    public void FolderInPlaceOfAFile_IsToldToBeOne()
        => Should.Throw<IOException>(() => SnapshotReader.Read([Path.GetTempPath()])).Message.ShouldContain("folder");

    [Fact]
    public void AbsentAndNullFields_BecomeDefaults()
    {
        var snapshot = Read("""
            {"apiVersion":"v1","kind":"List","items":[
              {"apiVersion":"v1","kind":"Service","metadata":{"name":"a","labels":null},"spec":{"ports":null,"selector":null,"type":null},"status":null},
              {"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","managedFields":[{"f:x":null}],"annotations":{"a":"b"}},"spec":{"containers":[{"name":"c","ports":null}]}},
              {"apiVersion":"v1","kind":"Node","metadata":{"name":"n"}},
              {"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"s"},"endpoints":null,"ports":null},
              {"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"t"},"endpoints":[{"addresses":["10.0.0.1"],"conditions":{}},null]},
              null
            ]}
            """);
        var service = snapshot.Services.Single();
        service.Metadata.Namespace.ShouldBe("default");
        service.Metadata.Labels.ShouldBeEmpty();
        service.Spec.Ports.ShouldBeEmpty();
        service.Spec.Selector.ShouldBeEmpty();
        service.Spec.Type.ShouldBe("ClusterIP");
        service.Spec.SessionAffinity.ShouldBe("None");
        service.Status.LoadBalancer.Ingress.ShouldBeEmpty();
        var pod = snapshot.Pods.Single();
        pod.Spec.Containers.Single().Ports.ShouldBeEmpty();
        pod.Status.Conditions.ShouldBeEmpty();
        pod.Spec.DnsPolicy.ShouldBe("ClusterFirst");
        snapshot.Nodes.Single().Metadata.Namespace.ShouldBeNull();
        snapshot.EndpointSlices[0].Endpoints.ShouldBeEmpty();
        snapshot.EndpointSlices[1].Endpoints.Single().Conditions.Ready.ShouldBeNull();
        snapshot.Unread.ShouldBeEmpty();
        snapshot.IsRead("networkpolicies").ShouldBeFalse();
    }

    [Theory]
    [InlineData(Service)]
    [InlineData($$"""{"items":[{{Service}}],"kind":"List","apiVersion":"v1"}""")]
    [InlineData("""{"kind":"ServiceList","apiVersion":"v1","metadata":{},"items":[{"metadata":{"name":"web","namespace":"shop"},"spec":{"clusterIP":"10.96.0.1","ports":[{"port":80,"targetPort":"9376"}]}}]}""")]
    [InlineData($"[{Service}]")]
    [InlineData("{\"kind\":\"ConfigMap\"}\n" + Service)]
    [InlineData("apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec:\n  clusterIP: 10.96.0.1\n  ports:\n  - port: 80\n    targetPort: \"9376\"\n")]
    [InlineData("---\nkind: ConfigMap\n---\n# nothing\n---\napiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Service\n  metadata:\n    name: web\n    namespace: shop\n  spec:\n    clusterIP: 10.96.0.1\n    ports:\n    - port: 80\n      targetPort: '9376'\n")]
    public void EveryWayKubectlWrites_GivesTheSame(string text)
    {
        var service = Read(text).Services.Single();
        service.Ref.ToString().ShouldBe("service/shop/web");
        service.Spec.Ports.Single().Port.ShouldBe(80);
        service.Spec.Ports.Single().TargetPort.ShouldBe(new IntOrString(null, "9376"));
    }

    [Fact]
    public void PlainNumberInYaml_IsANumber()
        => Read("kind: Service\nmetadata: {name: a}\nspec:\n  ports:\n  - {port: 80, targetPort: 9376, name: !!str 80}\n").Services.Single().Spec.Ports.Single()
            .ShouldBe(new ServicePort { Port = 80, TargetPort = 9376, Name = "80" });

    [Fact]
    public void OtherKindsAndOtherGroups_AreCounted()
    {
        var reader = new SnapshotReader();
        reader.Add("a", Encoding.UTF8.GetBytes("""{"kind":"List","items":[{"kind":"Deployment"},{"kind":"Deployment"},{"kind":"Service","apiVersion":"serving.knative.dev/v1","spec":{"template":{}}},{}]}"""));
        reader.ToSnapshot().Services.ShouldBeEmpty();
        reader.Ignored.ShouldBe(new Dictionary<string, int> { ["Deployment"] = 2, ["Service"] = 1, ["(no kind)"] = 1 }, ignoreOrder: true);
    }

    [Fact]
    public void LaterFile_ReplacesTheSameObject()
    {
        var reader = new SnapshotReader();
        reader.Add("a", Encoding.UTF8.GetBytes(Service));
        reader.Add("b", Encoding.UTF8.GetBytes(Service.Replace("10.96.0.1", "10.96.0.2", StringComparison.Ordinal)));
        reader.ToSnapshot().Services.Single().Spec.ClusterIP.ShouldBe("10.96.0.2");
    }

    [Fact]
    public void KindsNotGiven_AreUnread()
    {
        Read(Service).Unread.Select(u => u.What).ShouldBe(["endpointslices", "pods", "nodes"]);
        Read("""{"kind":"PodList","apiVersion":"v1","items":[]}""").Unread.Select(u => u.What).ShouldNotContain("pods");
        Read("""{"kind":"List","apiVersion":"v1","items":null}""", "pods.json").Unread.Select(u => u.What).ShouldNotContain("pods");
        Read("""{"kind":"List","apiVersion":"v1","items":[]}""").Unread.Length.ShouldBe(4);
        Read("""{"kind":"List","apiVersion":"v1","items":[]}""", "networkpolicies.json").IsRead("networkpolicies").ShouldBeTrue();
    }

    [Fact]
    public void PoliciesNamespacesAndWarnings_AreKept()
    {
        var snapshot = Read("""
            {"apiVersion":"v1","kind":"List","items":[
              {"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop","labels":{"team":"a"}}},
              {"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"deny","namespace":"shop"},"spec":{"podSelector":{},"policyTypes":["Ingress"],
                "ingress":[{"from":[{"namespaceSelector":{"matchExpressions":[{"key":"team","operator":"In","values":["a","b"]}]}},{"ipBlock":{"cidr":"10.0.0.0/8","except":["10.1.0.0/16"]}}],
                            "ports":[{"port":8080,"endPort":8090},{"protocol":"UDP","port":"dns"}]}]}},
              {"apiVersion":"crd.projectcalico.org/v1","kind":"NetworkPolicy","metadata":{"name":"other"}},
              {"apiVersion":"v1","kind":"Event","metadata":{"name":"p.1","namespace":"shop"},"type":"Warning","reason":"Unhealthy","message":"Readiness probe failed: HTTP probe failed with statuscode: 503",
                "count":7,"lastTimestamp":"2026-01-02T03:04:05Z","involvedObject":{"kind":"Pod","namespace":"shop","name":"p","uid":"u1"}},
              {"apiVersion":"v1","kind":"Event","metadata":{"name":"p.2","namespace":"shop"},"type":"Normal","reason":"Pulled","involvedObject":{"kind":"Pod","namespace":"shop","name":"p"}},
              {"apiVersion":"v1","kind":"Event","metadata":{"name":"d.1","namespace":"shop"},"type":"Warning","reason":"X","involvedObject":{"kind":"Deployment","name":"p"}},
              {"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","namespace":"shop","uid":"u1","annotations":{"kubernetes.io/config.mirror":"0123","a":"b"}}},
              {"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","namespace":"bank","uid":"u2"}}
            ]}
            """);
        snapshot.FindNamespace("shop")!.Metadata.Labels["team"].ShouldBe("a");
        var policy = snapshot.PoliciesIn("shop").ShouldHaveSingleItem();
        policy.Ref.ToString().ShouldBe("networkpolicy/shop/deny");
        policy.Spec.PodSelector.IsEmpty.ShouldBeTrue();
        policy.Spec.Ingress[0].From[0].NamespaceSelector!.ToString().ShouldBe("team in (a, b)");
        policy.Spec.Ingress[0].From[0].PodSelector.ShouldBeNull();
        policy.Spec.Ingress[0].From[1].IpBlock!.Except.ShouldBe(["10.1.0.0/16"]);
        policy.Spec.Ingress[0].Ports.ShouldBe([new NetworkPolicyPort { Port = 8080, EndPort = 8090 }, new NetworkPolicyPort { Protocol = "UDP", Port = "dns" }]);
        var pod = snapshot.FindPod("shop", "p")!;
        snapshot.EventsOf(pod).ShouldHaveSingleItem().Message.ShouldBe("Readiness probe failed: HTTP probe failed with statuscode: 503");
        snapshot.EventsOf(snapshot.FindPod("bank", "p")!).ShouldBeEmpty();
        (pod.Metadata.StaticPodUid, pod.Metadata.Annotations.Count).ShouldBe(("0123", 1));
    }

    [Fact]
    public void GzippedFileCutAnywhere_IsToldToEndEarly_AndAWholeOneNever()
    {
        var random = new Random(4);
        var name = new string([.. Enumerable.Range(0, 3000).Select(_ => (char)random.Next('a', 'z' + 1))]);
        var whole = Packed($$"""{"kind":"Service","metadata":{"name":"{{name}}","namespace":"shop"} }""");
        Read(whole).Services.ShouldHaveSingleItem();
        // As cat puts them together, and as pigz writes them: one behind the other.
        Read([.. whole, .. Packed("\n{\"kind\":\"Pod\",\"metadata\":{\"name\":\"p\"}}")]).Pods.ShouldHaveSingleItem();
        for (var length = 2; length < whole.Length; length++)
        {
            Should.Throw<FormatException>(() => Read(whole[..length])).Message.ShouldStartWith("objects.json.gz ends early:", customMessage: $"{length} of {whole.Length} bytes");
        }

        whole[^6] ^= 1; // in the checksum
        Should.Throw<FormatException>(() => Read(whole)).Message.ShouldStartWith("objects.json.gz is a damaged gzip file:");

        static ClusterSnapshot Read(byte[] content)
        {
            var reader = new SnapshotReader();
            reader.Add("objects.json.gz", content);
            return reader.ToSnapshot();
        }

        static byte[] Packed(string text)
        {
            var packed = new MemoryStream();
            using (var packer = new System.IO.Compression.GZipStream(packed, System.IO.Compression.CompressionLevel.Optimal))
            {
                packer.Write(Encoding.UTF8.GetBytes(text));
            }

            return packed.ToArray();
        }
    }

    [Fact]
    public void ConfigurationOfTheCluster_IsReadFromItsOwnConfigMapsOnly()
    {
        var snapshot = Read("""
            apiVersion: v1
            kind: List
            items:
            - apiVersion: v1
              kind: ConfigMap
              metadata: {name: kubelet-config, namespace: kube-system}
              data:
                kubelet: |
                  apiVersion: kubelet.config.k8s.io/v1beta1
                  kind: KubeletConfiguration
                  clusterDNS:
                  - 10.96.0.10
                  clusterDomain: corp.internal
            - apiVersion: v1
              kind: ConfigMap
              metadata: {name: kube-proxy, namespace: kube-system}
              data:
                config.conf: |
                  kind: KubeProxyConfiguration
                  clusterCIDR: 10.244.0.0/16,fd00:10:244::/56
                  mode: ""
                  iptables: {masqueradeAll: true}
                kubeconfig.conf: "not looked at: ["
            - apiVersion: v1
              kind: ConfigMap
              metadata: {name: coredns, namespace: shop}
              data: {Corefile: "{{{"}
            """, "objects.yaml");
        (snapshot.ClusterDomain, snapshot.ClusterDomainFrom).ShouldBe(("corp.internal", "configmap/kube-system/kubelet-config"));
        snapshot.Settings.Kubelet!.ClusterDns.ShouldBe(["10.96.0.10"]);
        (snapshot.Settings.KubeProxy!.Mode, snapshot.Settings.KubeProxy.MasqueradeAll).ShouldBe((null, true));
        snapshot.Settings.KubeProxy.ClusterCidrs.ShouldBe(["10.244.0.0/16", "fd00:10:244::/56"]);
        snapshot.Unread.ShouldNotContain(u => u.What.StartsWith("configmap", StringComparison.Ordinal));
        Read("kind: Service\nmetadata: {name: a}\n").ClusterDomainFrom.ShouldBeNull();
    }

    [Theory]
    [InlineData("""{"kind":"Service","metadata":{"name":"web","namespace":"shop"},"spec":{"ports":[{"port":"80"}]}}""", "objects.json, line 1: Service shop/web: spec.ports[0].port: a whole number was expected.")]
    [InlineData("""{"kind":"Pod","metadata":{"name":"p","labels":{"version":1}}}""", "objects.json, line 1: Pod default/p: metadata.labels.version: a string was expected (numbers and true/false need quotes here).")]
    [InlineData("""{"kind":"EndpointSlice","metadata":{"name":"s"},"endpoints":{}}""", "objects.json, line 1: EndpointSlice default/s: endpoints: a list was expected.")]
    [InlineData("""{"kind":"Service","spec":7}""", "objects.json, line 1: Service default/(no name): spec: an object was expected.")]
    [InlineData("{\n \"kind\":\"List\",\n \"items\":[\n  {\"kind\":\"Pod\"},\n  {\"kind\":\"Pod\",\n   \"spec\":{\"hostNetwork\":1}}]}", "objects.json, line 6: Pod default/(no name): spec.hostNetwork: true or false was expected.")]
    [InlineData("kind: Pod\nspec:\n  hostNetwork: 1\n", "objects.json: Pod default/(no name): spec.hostNetwork: true or false was expected.")]
    [InlineData("{\"kind\":\"Pod\",\n\"a\"}", "objects.json, line 2: this is not JSON as kubectl writes it: '}' is invalid after a property name. Expected a ':'.")]
    [InlineData("""{"kind":"List","items":7}""", "objects.json, line 1: items: a list was expected.")]
    [InlineData("""{"kind":"Status","status":"Failure","message":"pods is forbidden"}""", "objects.json holds an error of the API server instead of objects: pods is forbidden")]
    [InlineData("", "objects.json is empty; write it with 'kubectl get … -o json'.")]
    [InlineData("No resources found", "objects.json: an object was expected, not 'No resources found'.")]
    public void WrongContent_NamesFileObjectAndPlace(string text, string message)
        => Should.Throw<FormatException>(() => Read(text)).Message.ShouldBe(message);

    [Theory]
    [InlineData("{\"kind\":\"Service\"")]
    [InlineData("{\"kind\":\"Service\"}]")]
    [InlineData("kind: [")]
    [InlineData("a: &x {b: 1}\nc: *x\n")]
    [InlineData("? {a: b}\n: c\n")]
    public void DamagedText_IsAFormatError(string text) => Should.Throw<FormatException>(() => Read(text));

    [Fact]
    public void DamagedBytes_AreAFormatErrorOrRead()
    {
        var random = new Random(17);
        var whole = File.ReadAllBytes(Fixture.Find(Fixture.Own("kube-proxy-1.36-nft"), "services.json")!);
        var plain = Encoding.UTF8.GetBytes(Fixture.Text(Fixture.Find(Fixture.Own("kube-proxy-1.36-nft"), "services.json")!));
        foreach (var original in new[] { whole, plain })
        {
            for (var i = 0; i < 300; i++)
            {
                var bytes = original.ToArray();
                for (var n = random.Next(1, 4); n > 0; n--)
                {
                    bytes[random.Next(bytes.Length)] = (byte)random.Next(256);
                }

                try
                {
                    new SnapshotReader().Add("mutated", bytes.AsMemory(0, random.Next(2) == 0 ? bytes.Length : random.Next(bytes.Length)));
                }
                catch (FormatException)
                {
                    // What it is for.
                }
            }
        }
    }

    [Fact]
    public void OldSlices_TakeTheNodeFromTheirTopology()
    {
        var folder = Fixture.Own("kube-proxy-1.20-legacy");
        var snapshot = SnapshotReader.Read(Fixture.Find(folder, "endpointslices.json")!);
        var endpoints = snapshot.EndpointSlices.SelectMany(s => s.Endpoints).Where(e => e.TargetRef is not null).ToArray();
        endpoints.ShouldNotBeEmpty();
        endpoints.ShouldAllBe(e => e.NodeName!.StartsWith("kp-node", StringComparison.Ordinal));
        endpoints.ShouldAllBe(e => e.Conditions.Serving == null);
    }

    [Fact]
    public void EndpointsAlone_StandInForSlices()
    {
        var folder = Fixture.Own("kube-proxy-1.20-legacy");
        var bySlices = SnapshotReader.Read(Fixture.Find(folder, "services.json")!, Fixture.Find(folder, "endpointslices.json")!);
        var byEndpoints = SnapshotReader.Read(Fixture.Find(folder, "services.json")!, Fixture.Find(folder, "endpoints.json")!);
        byEndpoints.Unread.Select(u => u.What).ShouldBe(["pods", "nodes"]);
        var compared = 0;
        foreach (var service in bySlices.Services)
        {
            foreach (var port in service.Spec.Ports)
            {
                compared++;
                ServiceMeaning.ExpectedBackends(byEndpoints, service, port, false).Where(b => b.Ready).Select(b => b.Address).ShouldBe(
                    ServiceMeaning.ExpectedBackends(bySlices, service, port, false).Where(b => b.Ready).Select(b => b.Address), ignoreOrder: true, $"{service.Ref}:{port.Port}");
            }
        }

        compared.ShouldBeGreaterThan(30);
    }

    [Fact]
    public void EveryReadSnapshot_HasNoDefaultListAnywhere()
    {
        foreach (var name in new[] { "kube-proxy-1.20-legacy", "kube-proxy-1.36-nft" })
        {
            var folder = Fixture.Own(name);
            var snapshot = SnapshotReader.Read(new[] { "services.json", "endpointslices.json", "pods.json", "nodes.json" }.Select(f => Fixture.Find(folder, f)!));
            snapshot.Unread.Select(u => u.What).ShouldBeEmpty();
            snapshot.Pods.ShouldNotBeEmpty();
            snapshot.Nodes.Length.ShouldBe(3);
            AssertNoDefaults(snapshot, name);
        }
    }

    [Fact]
    public void EverySharedObjectFile_IsRead()
    {
        var root = Fixture.RequireShared();
        var files = 0;
        foreach (var file in Directory.EnumerateFiles(root, "*.json*", SearchOption.AllDirectories))
        {
            var stem = Path.GetFileName(file).Split('.')[0];
            if (stem is not ("services" or "pods" or "nodes" or "endpoints" or "endpointslices" or "raw-services-page1" or "raw-endpointslices-page1" or "raw-endpoints-page1")
                || file.Contains("10000x2", StringComparison.Ordinal))
            {
                continue;
            }

            files++;
            var snapshot = SnapshotReader.Read(file);
            (snapshot.Services.Length + snapshot.Pods.Length + snapshot.Nodes.Length + snapshot.EndpointSlices.Length).ShouldBeGreaterThan(0, file);
        }

        files.ShouldBeGreaterThan(50);
    }

    private static void AssertNoDefaults(object? value, string path)
    {
        if (value is null or string || value.GetType().IsPrimitive || value.GetType().IsEnum || value is DateTimeOffset or IntOrString)
        {
            return;
        }

        var type = value.GetType();
        if (type.IsGenericType && type.GetGenericTypeDefinition() == typeof(System.Collections.Immutable.ImmutableArray<>))
        {
            ((bool)type.GetProperty("IsDefault")!.GetValue(value)!).ShouldBeFalse(path);
            foreach (var item in (System.Collections.IEnumerable)value)
            {
                AssertNoDefaults(item, path + "[]");
            }

            return;
        }

        if (value is System.Collections.IEnumerable)
        {
            return;
        }

        foreach (var property in type.GetProperties().Where(p => p.CanWrite))
        {
            AssertNoDefaults(property.GetValue(value), $"{path}.{property.Name}");
        }
    }
}
