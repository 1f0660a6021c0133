using System.Diagnostics;
using TraceProbe.Agent.Requests;
using TraceProbe.Core.Dns;
using TraceProbe.Core.Requests;

namespace TraceProbe.Agent.Tests.Requests;

[Collection("network")]
public sealed class ResolveTests(TestNetwork network)
{
    private const string Pod = "search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver 127.0.0.2\noptions ndots:5 timeout:1\n";

    [Theory]
    [InlineData(ResolverFlavor.Glibc)]
    [InlineData(ResolverFlavor.Musl)]
    public void ShortName_IsFoundInTheFirstSearchDomain(ResolverFlavor flavor)
    {
        var report = Ask("web", Pod, flavor: flavor);
        report.Addresses.Single().ToString().ShouldBe("10.53.0.1");
        Lines(report).ShouldBe(["A web.default.svc.cluster.local @127.0.0.2 Udp Answered", "AAAA web.default.svc.cluster.local @127.0.0.2 Udp NoData"]);
        report.Lookups.ShouldAllBe(l => l.SentNanoseconds > 0 && l.EndNanoseconds >= l.SentNanoseconds);
        report.Failure.ShouldBe("Connection refused");
        report.Connects.Single().Error.ShouldBe(111);
        report.Connects.Single().Remote.ToString().ShouldBe("10.53.0.1:9");
    }

    [Fact]
    public void UnknownName_WalksTheWholeSearchList()
    {
        var report = Ask("nope", Pod.Replace("cluster.local\n", "cluster.local test\n", StringComparison.Ordinal));
        report.Failure.ShouldBe("Could not resolve host: nope");
        report.Lookups.Where(l => l.Type == "A").Select(l => $"{l.Name} {l.ResponseCode}").ShouldBe([
            "nope.default.svc.cluster.local NXDomain", "nope.svc.cluster.local NXDomain", "nope.cluster.local NXDomain", "nope.test NXDomain",
            // A nameserver with no upstream refuses the bare name; glibc asks again, as many rounds as there are attempts.
            "nope Refused", "nope Refused"]);
        report.Connects.ShouldBeEmpty();
    }

    [Fact]
    public void TrailingDot_IsAskedAlone()
        => Ask("web.default.svc.cluster.local.", Pod).Lookups.Select(l => l.Name).Distinct().ShouldBe(["web.default.svc.cluster.local"]);

    [Fact]
    public void EnoughDots_AreTriedAsGivenFirst()
    {
        var report = Ask("web.default", "search svc.cluster.local\nnameserver 127.0.0.2\noptions ndots:1 attempts:1\n");
        report.Lookups.Where(l => l.Type == "A").Select(l => l.Name).ShouldBe(["web.default", "web.default.svc.cluster.local"]);
        report.Addresses.Single().ToString().ShouldBe("10.53.0.1");
    }

    [Fact]
    public void EnoughDots_MuslNeverSearches()
    {
        var report = Ask("web.cluster.local", "search x.cluster.local\nnameserver 127.0.0.2\noptions ndots:1\n", flavor: ResolverFlavor.Musl);
        report.Lookups.Select(l => l.Name).Distinct().ShouldBe(["web.cluster.local"]);
        report.Failure.ShouldBe("Could not resolve host: web.cluster.local");
    }

    [Fact]
    public void DeadNameserver_TimesOutAndTheSecondAnswers()
    {
        var report = Ask("both.test", "nameserver 10.99.0.53\nnameserver 127.0.0.2\noptions timeout:1\n");
        Lines(report).ShouldBe(["A both.test @10.99.0.53 Udp TimedOut", "AAAA both.test @10.99.0.53 Udp TimedOut",
            "A both.test @127.0.0.2 Udp Answered", "AAAA both.test @127.0.0.2 Udp Answered"]);
        report.Lookups[0].EndNanoseconds.ShouldBeGreaterThan(report.Lookups[0].SentNanoseconds + 900_000_000);
        // glibc's table puts unique local addresses before IPv4.
        report.Addresses.Select(a => a.ToString()).ShouldBe(["fd00:53::1", "10.53.0.1"]);
    }

    [Fact]
    public void DeadNameserver_DoesNotDelayMusl()
    {
        var report = Ask("both.test", "nameserver 10.99.0.53\nnameserver 127.0.0.2\noptions timeout:2\n", flavor: ResolverFlavor.Musl);
        Lines(report).ShouldBe(["A both.test @10.99.0.53 Udp Superseded", "A both.test @127.0.0.2 Udp Answered",
            "AAAA both.test @10.99.0.53 Udp Superseded", "AAAA both.test @127.0.0.2 Udp Answered"]);
        report.Addresses.Select(a => a.ToString()).ShouldBe(["10.53.0.1", "fd00:53::1"]);
    }

    [Fact]
    public void UnreachableNameserver_IsLeftAtOnce()
    {
        // Nothing listens there: ICMP port unreachable.
        var report = Ask("both.test", "nameserver 127.0.0.4\nnameserver 127.0.0.2\n");
        report.Lookups[0].Outcome.ShouldBe(LookupOutcome.Unreachable);
        report.Lookups[^1].Outcome.ShouldBe(LookupOutcome.Answered);
        (report.Lookups[^1].EndNanoseconds - report.StartNanoseconds).ShouldBeLessThan(4_000_000_000);
    }

    [Fact]
    public void NoNameserverReachable_EndsTheSearch()
    {
        var report = Ask("web", "search a b\nnameserver 127.0.0.4\noptions ndots:5\n");
        report.Lookups.ShouldAllBe(l => l.Outcome == LookupOutcome.Unreachable && l.Name == "web.a");
        report.Failure.ShouldBe("Could not resolve host: web");
    }

    [Fact]
    public void Refused_LeadsToTheNextNameserver()
    {
        var report = Ask("second.example", "nameserver 127.0.0.2\nnameserver 127.0.0.3\n");
        Lines(report).ShouldBe(["A second.example @127.0.0.2 Udp ServerFailure", "AAAA second.example @127.0.0.2 Udp ServerFailure",
            "A second.example @127.0.0.3 Udp Answered", "AAAA second.example @127.0.0.3 Udp NoData"]);
        report.Lookups[0].ResponseCode.ShouldBe(DnsResponseCode.Refused);
    }

    [Theory]
    [InlineData(ResolverFlavor.Glibc)]
    [InlineData(ResolverFlavor.Musl)]
    public void CutAnswer_IsAskedForOverTcp(ResolverFlavor flavor)
    {
        var report = Ask("big.test", "nameserver 127.0.0.2\n", flavor: flavor, timeout: 2);
        report.Lookups[0].Outcome.ShouldBe(LookupOutcome.Truncated);
        var tcp = report.Lookups.First(l => l.Transport == Core.Net.IpProtocol.Tcp);
        (tcp.Type, tcp.Outcome, tcp.Addresses.Length).ShouldBe(("A", LookupOutcome.Answered, 48));
    }

    [Fact]
    public void CutAnswerWithoutTcp_IsAFailure()
    {
        // Answers everything with TC, and nothing listens on TCP.
        var address = network.ServeDatagrams(query => { query[2] |= 0x82; return query; }, "127.0.0.5");
        var report = Ask("x.test", $"nameserver {address}\noptions attempts:1\n");
        report.Lookups[0].Outcome.ShouldBe(LookupOutcome.Truncated);
        report.Lookups[^1].ShouldSatisfyAllConditions(l => l.Transport.ShouldBe(Core.Net.IpProtocol.Tcp), l => l.Outcome.ShouldBe(LookupOutcome.Unreachable));
        report.Failure.ShouldBe("Could not resolve host: x.test");
    }

    [Fact]
    public void UseVc_AsksOverTcpFromTheStart()
        => Ask("both.test", "nameserver 127.0.0.2\noptions use-vc\n").Lookups.ShouldAllBe(l => l.Transport == Core.Net.IpProtocol.Tcp && l.Outcome == LookupOutcome.Answered);

    [Theory]
    [InlineData(ResolverFlavor.Glibc)]
    [InlineData(ResolverFlavor.Musl)]
    public void IPv6Nameserver_IsAsked(ResolverFlavor flavor)
    {
        var report = Ask("six.test", "nameserver ::1\n", flavor: flavor);
        Lines(report).ShouldBe(["A six.test @::1 Udp NoData", "AAAA six.test @::1 Udp Answered"]);
        report.Addresses.Single().ToString().ShouldBe("fd00:53::1");
        report.Connects.Single().Remote.ToString().ShouldBe("[fd00:53::1]:9");
    }

    [Fact]
    public void SingleRequest_AsksForAaaaAfterwards()
    {
        var report = Ask("both.test", "nameserver 127.0.0.2\noptions single-request\n");
        report.Lookups[1].SentNanoseconds.ShouldBeGreaterThanOrEqualTo(report.Lookups[0].EndNanoseconds);
        Ask("both.test", "nameserver 127.0.0.2\noptions no-aaaa\n").Lookups.ShouldAllBe(l => l.Type == "A");
    }

    [Fact]
    public void AliasToAddresses_IsFollowed()
        => Ask("alias.test", "nameserver 127.0.0.2\n").Addresses.Length.ShouldBe(2);

    [Fact]
    public void HostsFile_AnswersFirst()
    {
        var report = Ask("web", Pod, "10.53.0.1 other\n10.99.0.1\tweb # by hand\n");
        report.Lookups.ShouldBeEmpty();
        report.HostsEntry.ShouldBe("10.99.0.1\tweb");
        report.Addresses.Single().ToString().ShouldBe("10.99.0.1");
    }

    [Fact]
    public void LostSecondAnswer_IsAskedForAgainOneAtATime()
    {
        // The five-second DNS delay: of two datagrams from one port, one is lost.
        var seen = 0;
        var address = network.ServeDatagrams(query =>
        {
            var aaaa = query[^3] == 28;
            return aaaa && seen++ == 0 ? null : Answer(query, 3);
        }, "127.0.0.6");
        var report = Ask("x.test", $"nameserver {address}\noptions timeout:1\n");
        Lines(report).ShouldBe([$"A x.test @{address} Udp NameError", $"AAAA x.test @{address} Udp TimedOut",
            $"A x.test @{address} Udp NameError", $"AAAA x.test @{address} Udp NameError"]);
    }

    [Fact]
    public void ServFail_IsFollowedByTheNextDomain()
    {
        var address = network.ServeDatagrams(query => Answer(query, query[13] == (byte)'a' ? 2 : 3), "127.0.0.7");
        var report = Ask("n", $"search a b\nnameserver {address}\noptions ndots:5 attempts:1\n");
        report.Lookups.Where(l => l.Type == "A").Select(l => $"{l.Name} {l.Outcome}").ShouldBe(["n.a NameError", "n.b NameError", "n NameError"]);
        address = network.ServeDatagrams(query => Answer(query, 2), "127.0.0.8");
        report = Ask("n", $"search a b\nnameserver {address}\noptions ndots:5 attempts:1\n");
        report.Lookups.Where(l => l.Type == "A").Select(l => $"{l.Name} {l.ResponseCode}").ShouldBe(["n.a ServFail", "n.b ServFail", "n ServFail"]);
    }

    [Theory]
    [InlineData(ResolverFlavor.Glibc)]
    [InlineData(ResolverFlavor.Musl)]
    public void ForgedAnswers_AreNotTaken(ResolverFlavor flavor)
    {
        // Wrong number, wrong question, not an answer, garbage.
        var round = 0;
        var address = network.ServeDatagrams(query =>
        {
            var answer = Answer(query, 3);
            switch (round++ % 4)
            {
                case 0: answer[0] ^= 1; break;
                case 1: answer[14] ^= 1; break;
                case 2: answer[2] &= 0x7f; break;
                default: answer = [1, 2, 3]; break;
            }

            return answer;
        }, flavor == ResolverFlavor.Glibc ? "127.0.0.9" : "127.0.0.10");
        var report = Ask("xxx.test", $"nameserver {address}\noptions timeout:1 attempts:1\n", flavor: flavor);
        report.Lookups.ShouldAllBe(l => l.Outcome == LookupOutcome.TimedOut);
    }

    [Fact]
    public void EndlessRounds_EndWithTheRequestsTime()
    {
        var clock = Stopwatch.StartNew();
        var report = Ask("x", "search a b c d\nnameserver 10.99.0.51\nnameserver 10.99.0.52\nnameserver 10.99.0.53\noptions ndots:9 timeout:30 attempts:5\n", timeout: 0.5);
        clock.Elapsed.TotalSeconds.ShouldBeLessThan(5);
        report.Failure.ShouldBe("Resolving timed out: x");
        report.Lookups.Length.ShouldBe(2);
    }

    [Fact]
    public void Cancelling_EndsTheWait()
    {
        var client = network.Client("nameserver 10.99.0.53\n");
        using var source = new CancellationTokenSource(100);
        RequestTarget.TryParse("tcp://x:9", "", "", out var target, out _);
        Should.Throw<OperationCanceledException>(() => RequestSender.Send(target!, client, TimeSpan.FromSeconds(30), source.Token));
    }

    private static byte[] Answer(byte[] query, int code)
    {
        query[2] |= 0x80;
        query[3] = (byte)(0x80 | code);
        return query;
    }

    private ClientReport Ask(string host, string resolvConf, string hosts = "", ResolverFlavor flavor = ResolverFlavor.Glibc, double timeout = 8)
    {
        var client = network.Client(resolvConf, hosts, flavor);
        RequestTarget.TryParse($"tcp://{host}:9", "default", "cluster.local", out var target, out var error).ShouldBeTrue(error);
        var report = RequestSender.Send(target!, client, TimeSpan.FromSeconds(timeout), TestContext.Current.CancellationToken);
        report.Resolver!.Path.ShouldBe(client.ResolvConfPath);
        network.NobodyShouldBeInside();
        return report;
    }

    private static IEnumerable<string> Lines(ClientReport report)
        => report.Lookups.Select(l => $"{l.Type} {l.Name} @{l.Nameserver.Address} {l.Transport} {l.Outcome}");
}
