using System.Text.Json.Nodes;
using TraceProbe.Core.Checks;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Net;
using TraceProbe.Core.Rules;

namespace TraceProbe.Core.Tests;

/// <summary>What check and rules walk write is what their schemas say.</summary>
public class CheckSchemaTests
{
    private const string Dump = """
        *nat
        :PREROUTING ACCEPT [0:0]
        :POSTROUTING ACCEPT [0:0]
        :KUBE-SERVICES - [0:0]
        :KUBE-SVC-A - [0:0]
        [7:420] -A PREROUTING -j KUBE-SERVICES
        [7:420] -A KUBE-SERVICES -d 10.96.0.7/32 -p tcp -m comment --comment "a/web cluster IP" -m tcp --dport 80 -j KUBE-SVC-A
        [0:0] -A KUBE-SVC-A -m recent --rcheck --seconds 60 --name KUBE-SEP-A --mask 255.255.255.255 --rsource -j KUBE-SVC-A
        [7:420] -A KUBE-SVC-A -p tcp -j DNAT --to-destination 10.244.1.9:8080
        [1:60] -A POSTROUTING -j MASQUERADE
        COMMIT
        """;

    private static readonly ClusterSnapshot Cluster = new()
    {
        Services =
        [
            new Service
            {
                Metadata = new ObjectMeta { Namespace = "a", Name = "web" },
                Spec = new ServiceSpec { ClusterIP = "10.96.0.7", ClusterIPs = ["10.96.0.7"], Ports = [new ServicePort { Name = "http", Port = 80 }] },
            },
        ],
        Pods = [new Pod { Metadata = new ObjectMeta { Namespace = "a", Name = "web-1" }, Spec = new PodSpec { NodeName = "n" }, Status = new PodStatus { Phase = "Running", PodIP = "10.244.1.9" } }],
    };

    private static readonly ProxyRules Rules = ProxyRules.Of([RuleSet.Parse(new Node.RuleDump("iptables-save", Dump))], false, [], false);

    [Fact]
    public void CheckTypesAndSchema_SayTheSame() => new JsonSchema("src/TraceProbe.Core/Checks/check.schema.json", CheckJson.Default).ShouldDescribe(typeof(CheckReport));

    [Fact]
    public void WalkTypesAndSchema_SayTheSame() => new JsonSchema("src/TraceProbe.Core/Checks/walk.schema.json", CheckJson.Default).ShouldDescribe(typeof(WalkReport));

    [Fact]
    public void FailureClasses_AreThoseOfTheTable()
        => new JsonSchema("src/TraceProbe.Core/Checks/check.schema.json", CheckJson.Default).Root["$defs"]!["FailureClass"]!["enum"]!.AsArray().Select(n => (string)n!).ShouldBe(FailureClassInfo.All.Select(c => c.Name));

    [Fact]
    public void WhatIsWritten_FollowsTheSchema()
    {
        var check = new CheckReport { Nodes = [new RuleCheck(Cluster, "n", [Rules]).Run()] };
        check.Status.ShouldBe(CheckStatus.Differs);
        new JsonSchema("src/TraceProbe.Core/Checks/check.schema.json", CheckJson.Default).Validate(JsonNode.Parse(CheckJson.Write(check))!, "check");

        var packet = new VirtualPacket { Tuple = new FiveTuple(IpProtocol.Tcp, AddressPort.Parse("10.244.1.5:40000"), AddressPort.Parse("10.96.0.7:80")) };
        var walk = WalkReport.Of(Rules, packet, "a pod", Cluster, "n", withReply: true);
        walk.Ways.ShouldHaveSingleItem().Reply.ShouldHaveSingleItem().Becomes.ShouldBe("10.96.0.7:80 > 10.244.1.5:40000");
        walk.Ways[0].Pod!.Name.ShouldBe("web-1");
        walk.Affinity.ShouldHaveSingleItem().Seconds.ShouldBe(60);
        new JsonSchema("src/TraceProbe.Core/Checks/walk.schema.json", CheckJson.Default).Validate(JsonNode.Parse(CheckJson.Write(walk))!, "walk");
    }

    [Fact]
    public void TheSameComparison_IsTheSameBytes()
        => CheckJson.Write(new CheckReport { Nodes = [new RuleCheck(Cluster, "n", [Rules]).Run()] }).ShouldBe(CheckJson.Write(new CheckReport { Nodes = [new RuleCheck(Cluster, "n", [Rules]).Run()] }));
}
