using System.Collections.Immutable;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Tests.Meaning;

public sealed class PolicyMeaningTests
{
    private static readonly Pod Web = P("shop", "web-1", "10.244.1.5", ("app", "web"), ("tier", "front")) with
    {
        Spec = new PodSpec { Containers = [new Container { Name = "c", Ports = [new ContainerPort { Name = "http", Port = 8080 }, new ContainerPort { Name = "http", Port = 53, Protocol = "UDP" }] }] },
    };

    private static readonly Pod Client = P("shop", "client", "10.244.1.6", ("app", "client"));
    private static readonly Pod Stranger = P("bank", "client", "10.244.2.7", ("app", "client"));
    private static readonly Pod OnNode = P("shop", "agent", "172.18.0.2", ("app", "web")) with { Spec = new PodSpec { HostNetwork = true } };

    private static readonly Core.Cluster.Node OneNode = new() { Metadata = new ObjectMeta { Name = "n1" }, Status = new NodeStatus { Addresses = [new NodeAddress("InternalIP", "172.18.0.2")] } };

    private static ImmutableSortedDictionary<string, string> L(params (string, string)[] labels) => ImmutableSortedDictionary.CreateRange(labels.Select(l => KeyValuePair.Create(l.Item1, l.Item2)));

    private static Pod P(string ns, string name, string address, params (string, string)[] labels) => new()
    {
        Metadata = new ObjectMeta { Name = name, Namespace = ns, Labels = L(labels) },
        Status = new PodStatus { Phase = "Running", PodIP = address, PodIPs = [new PodIP(address)] },
    };

    private static LabelSelector With(params (string, string)[] labels) => new() { MatchLabels = L(labels) };

    private static LabelSelector Expr(string key, string op, params string[] values) => new() { MatchExpressions = [new LabelExpression { Key = key, Operator = op, Values = [.. values] }] };

    private static NetworkPolicy Policy(string name, NetworkPolicySpec spec, string ns = "shop") => new() { Metadata = new ObjectMeta { Name = name, Namespace = ns }, Spec = spec };

    private static NetworkPolicySpec In(LabelSelector pods, params NetworkPolicyIngressRule[] rules) => new() { PodSelector = pods, PolicyTypes = ["Ingress"], Ingress = [.. rules] };

    private static ClusterSnapshot Cluster(params NetworkPolicy[] policies) => new()
    {
        Pods = [Web, Client, Stranger, OnNode],
        Nodes = [OneNode],
        Namespaces = [new Namespace { Metadata = new ObjectMeta { Name = "shop", Labels = L(("team", "a")) } }, new Namespace { Metadata = new ObjectMeta { Name = "bank", Labels = L(("team", "b")) } }],
        NetworkPolicies = [.. policies],
        AlsoRead = ["networkpolicies", "namespaces"],
    };

    private static PolicyDecision Decide(ClusterSnapshot cluster, string from, string to, ushort port = 8080, IpProtocol protocol = IpProtocol.Tcp)
        => PolicyMeaning.Decide(cluster, PolicyPeer.At(IpAddress.Parse(from), cluster), PolicyPeer.At(IpAddress.Parse(to), cluster), protocol, port);

    private static bool? IsAllowed(NetworkPolicySpec spec, string from = "10.244.1.6", ushort port = 8080, IpProtocol protocol = IpProtocol.Tcp)
        => Decide(Cluster(Policy("p", spec)), from, "10.244.1.5", port, protocol).IsAllowed;

    [Fact]
    public void DefaultDeny_DropsAndIsNamed()
    {
        var decision = Decide(Cluster(Policy("deny-all", In(new LabelSelector()))), "10.244.1.6", "10.244.1.5");
        decision.IsAllowed.ShouldBe(false);
        (decision.Direction, decision.Pod!.Metadata.Name, decision.Policies.Single().Metadata.Name).ShouldBe((PolicyDirection.Ingress, "web-1", "deny-all"));
        decision.Reason.ShouldBe("NetworkPolicy shop/deny-all selects pod shop/web-1 and lets nothing in");

        // Another namespace's policies are none of this pod's.
        Decide(Cluster(Policy("deny-all", In(new LabelSelector()), "bank")), "10.244.1.6", "10.244.1.5").IsAllowed.ShouldBe(true);
        Decide(Cluster(), "10.244.1.6", "10.244.1.5").Reason.ShouldBe("no NetworkPolicy selects pod shop/web-1 for ingress");
    }

    [Fact]
    public void EgressDeny_StopsTheSenderFirst()
    {
        var deny = new NetworkPolicySpec { PolicyTypes = ["Egress"] };
        var decision = Decide(Cluster(Policy("no-way-out", deny), Policy("deny-in", In(With(("app", "web"))))), "10.244.1.6", "10.244.1.5");
        (decision.IsAllowed, decision.Direction).ShouldBe((false, PolicyDirection.Egress));
        decision.Reason.ShouldBe("NetworkPolicy shop/no-way-out selects pod shop/client and lets nothing out");
        // With egress rules and no types a policy is for both directions.
        var both = new NetworkPolicySpec { Egress = [new NetworkPolicyEgressRule()] };
        var reached = Decide(Cluster(Policy("both", both)), "10.244.1.6", "10.244.1.5");
        (reached.IsAllowed, reached.Direction).ShouldBe((false, PolicyDirection.Ingress));
    }

    [Fact]
    public void DnsForgottenInEgress_IsToldWithWhatIsAllowed()
    {
        var spec = new NetworkPolicySpec { PodSelector = With(("app", "client")), PolicyTypes = ["Egress"], Egress = [new NetworkPolicyEgressRule { To = [new NetworkPolicyPeer { PodSelector = With(("app", "web")) }], Ports = [new NetworkPolicyPort { Port = 8080 }] }] };
        Decide(Cluster(Policy("only-web", spec)), "10.244.1.6", "10.244.1.5").IsAllowed.ShouldBe(true);
        Decide(Cluster(Policy("only-web", spec)), "10.244.1.6", "10.244.1.5", 53, IpProtocol.Udp).Reason
            .ShouldBe("NetworkPolicy shop/only-web selects pod shop/client and lets it out to pod shop/web-1 on TCP 8080 only, not on UDP 53");
        Decide(Cluster(Policy("only-web", spec)), "10.244.1.6", "192.0.2.1").Reason
            .ShouldBe("NetworkPolicy shop/only-web selects pod shop/client and lets TCP 8080 out only to pods with app=web in shop, which 192.0.2.1 is not");
    }

    [Theory]
    [InlineData("10.244.1.6", true)]
    [InlineData("10.244.2.7", false)] // the same labels in another namespace
    [InlineData("192.0.2.1", false)]
    public void PodSelectorAlone_MeansThePolicysOwnNamespace(string from, bool allowed)
        => IsAllowed(In(With(("app", "web")), new NetworkPolicyIngressRule { From = [new NetworkPolicyPeer { PodSelector = With(("app", "client")) }] }), from).ShouldBe(allowed);

    [Theory]
    [InlineData("10.244.1.6", false)]
    [InlineData("10.244.2.7", true)]
    public void NamespaceAndPodSelectorInOnePeer_MustBothHold(string from, bool allowed)
    {
        var peer = new NetworkPolicyPeer { NamespaceSelector = Expr("team", "NotIn", "a"), PodSelector = With(("app", "client")) };
        IsAllowed(In(new LabelSelector(), new NetworkPolicyIngressRule { From = [peer] }), from).ShouldBe(allowed);
        // As two peers one of them is enough.
        IsAllowed(In(new LabelSelector(), new NetworkPolicyIngressRule { From = [new NetworkPolicyPeer { NamespaceSelector = peer.NamespaceSelector }, new NetworkPolicyPeer { PodSelector = peer.PodSelector }] }), from).ShouldBe(true);
    }

    [Theory]
    [InlineData("In", "front", true)]
    [InlineData("In", "back", false)]
    [InlineData("NotIn", "front", false)]
    [InlineData("NotIn", "back", true)]
    [InlineData("Exists", null, true)]
    [InlineData("DoesNotExist", null, false)]
    public void ExpressionsSelectPods(string op, string? value, bool selected)
        => (IsAllowed(In(Expr("tier", op, value is null ? [] : [value]))) == false).ShouldBe(selected);

    [Theory]
    [InlineData(8080, IpProtocol.Tcp, true)]
    [InlineData(8079, IpProtocol.Tcp, false)]
    [InlineData(53, IpProtocol.Udp, false)]
    public void NamedPort_IsThatOfThePodAndProtocol(int port, IpProtocol protocol, bool allowed)
        => IsAllowed(In(new LabelSelector(), new NetworkPolicyIngressRule { Ports = [new NetworkPolicyPort { Port = "http" }] }), "192.0.2.1", (ushort)port, protocol).ShouldBe(allowed);

    [Theory]
    [InlineData(7999, false)]
    [InlineData(8000, true)]
    [InlineData(8080, true)]
    [InlineData(8100, true)]
    [InlineData(8101, false)]
    public void EndPort_MakesARange(int port, bool allowed)
        => IsAllowed(In(new LabelSelector(), new NetworkPolicyIngressRule { Ports = [new NetworkPolicyPort { Port = 8000, EndPort = 8100 }] }), port: (ushort)port).ShouldBe(allowed);

    [Theory]
    [InlineData("192.0.2.1", true)]
    [InlineData("192.0.2.130", false)] // excepted
    [InlineData("198.51.100.1", false)]
    public void Block_LeavesItsExceptionsOut(string from, bool allowed)
        => IsAllowed(In(new LabelSelector(), new NetworkPolicyIngressRule { From = [new NetworkPolicyPeer { IpBlock = new IpBlock { Cidr = "192.0.2.0/24", Except = ["192.0.2.128/25"] } }] }), from).ShouldBe(allowed);

    [Fact]
    public void WhatPluginsDisagreeOn_IsNotKnown()
    {
        // Cilium does not compare pods' addresses with blocks; others do. A block that does not hold the address is plain.
        var block = In(new LabelSelector(), new NetworkPolicyIngressRule { From = [new NetworkPolicyPeer { IpBlock = new IpBlock { Cidr = "10.244.0.0/16" } }] });
        IsAllowed(block).ShouldBeNull();
        IsAllowed(In(new LabelSelector(), new NetworkPolicyIngressRule { From = [new NetworkPolicyPeer { IpBlock = new IpBlock { Cidr = "10.9.0.0/16" } }] })).ShouldBe(false);

        // The node itself, and pods in its network.
        IsAllowed(In(new LabelSelector()), "172.18.0.2").ShouldBeNull();
        Decide(Cluster(Policy("p", In(new LabelSelector()))), "10.244.1.6", "172.18.0.2").IsAllowed.ShouldBe(true);

        IsAllowed(In(new LabelSelector(), new NetworkPolicyIngressRule { From = [new NetworkPolicyPeer { PodSelector = Expr("app", "Resembles", "x") }] })).ShouldBeNull();
        IsAllowed(In(Expr("app", "Resembles", "x"))).ShouldBeNull();
        IsAllowed(In(Expr("app", "Resembles", "x"), new NetworkPolicyIngressRule())).ShouldBe(true);
        IsAllowed(In(new LabelSelector(), new NetworkPolicyIngressRule { From = [new NetworkPolicyPeer { IpBlock = new IpBlock { Cidr = "nonsense" } }] }), "192.0.2.1").ShouldBeNull();
        PolicyMeaning.Decide(Cluster() with { AlsoRead = [] }, new PolicyPeer(default, Client, false), new PolicyPeer(default, Web, false), IpProtocol.Tcp, 80).IsAllowed.ShouldBeNull();
    }

    [Fact]
    public void NamespacesNotRead_AreKnownByTheirNameOnly()
    {
        bool? By(LabelSelector namespaces) => Decide(Cluster(Policy("p", In(new LabelSelector(), new NetworkPolicyIngressRule { From = [new NetworkPolicyPeer { NamespaceSelector = namespaces }] }))) with { Namespaces = [] }, "10.244.2.7", "10.244.1.5").IsAllowed;
        By(With(("kubernetes.io/metadata.name", "bank"))).ShouldBe(true);
        By(With(("kubernetes.io/metadata.name", "shop"), ("team", "b"))).ShouldBe(false);
        By(With(("team", "b"))).ShouldBeNull();
        By(new LabelSelector()).ShouldBe(true);
    }

    [Fact]
    public void SeveralPolicies_AddUp()
    {
        var deny = Policy("deny-all", In(new LabelSelector()));
        var allow = Policy("allow-client", In(With(("app", "web")), new NetworkPolicyIngressRule { From = [new NetworkPolicyPeer { PodSelector = With(("app", "client")) }], Ports = [new NetworkPolicyPort { Port = 443 }] }));
        var open = Policy("allow-web", In(With(("app", "web")), new NetworkPolicyIngressRule()));
        Decide(Cluster(deny, open), "10.244.1.6", "10.244.1.5").Reason.ShouldBe("NetworkPolicy shop/allow-web lets it in");
        var decision = Decide(Cluster(deny, allow), "10.244.1.6", "10.244.1.5");
        decision.Policies.Length.ShouldBe(2);
        decision.Reason.ShouldBe("NetworkPolicy shop/allow-client selects pod shop/web-1 and lets it in from pod shop/client on TCP 443 only, not on TCP 8080");
        PolicyMeaning.Selecting(Cluster(deny, allow), Web, PolicyDirection.Egress).ShouldBeEmpty();

        // A pod's packets to itself are nobody's business.
        Decide(Cluster(deny), "10.244.1.5", "10.244.1.5").IsAllowed.ShouldBe(true);
    }
}
