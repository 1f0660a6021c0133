using TraceProbe.Core.Diagnosis;
using TraceProbe.Lab;

namespace TraceProbe.Scenarios.Tests;

/// <summary>What is set up in an unusual way, and rightly so, is healthy: nothing is found wrong with it.</summary>
/// <remarks>In every mode with <c>make test-matrix</c>, half of them in one mode with each run of all tests.</remarks>
public sealed class HealthySetUps(LabOfEachMode labs) : IClassFixture<LabOfEachMode>, IDisposable
{
    private ScenarioLab? _lab;

    /// <summary>Mode, what is unusual, how it is set up (a kubectl command, or nothing), the request, and where it comes from.</summary>
    public static TheoryData<ProxyMode, string, string, string, string> Cells
        => [.. from mode in EachFault.Modes
               from setUp in SetUps
               where (MatrixRow.IsAsked || Array.IndexOf(SetUps, setUp) % 2 == 1) && !setUp.IsImpossibleIn(mode)
               select (mode, setUp.What, setUp.Command, setUp.Url, setUp.From)];

    private static readonly SetUp[] SetUps =
    [
        new("a full name", "", "http://my-nginx.default.svc.cluster.local:8080", "pod/ubuntu"),
        new("a search path that needs two tries", "", "http://my-nginx.default:8080", "pod/ubuntu"),
        new("a search path that needs three tries", "", "http://my-nginx.default.svc:8080", "pod/ubuntu"),
        new("IPv4 by address", "", Url.IPv4, "pod/ubuntu"),
        new("IPv6 by address", "", Url.IPv6, "pod/ubuntu"),
        new("a client on the node, which has its host's network", "", Url.IPv4, "node/node-1"),
        new("a client on the other node", "", "http://10.96.0.175", "node/node-1"),
        new("client and server on one node", "", "http://hostnames", "pod/my-nginx-wu92j"),
        new("a pod that asks itself", "", "http://hostnames", $"pod/{Hostnames}"),
        new("a port of several, over UDP", "", "udp://hostnames:80", "pod/ubuntu"),
        new("an answer in many pieces", "", "http://hostnames/big", "pod/ubuntu"),
        new("the musl resolver", "--resolver musl", "http://my-nginx:8080", "pod/ubuntu"),
        new("session affinity", "kubectl patch service my-nginx -n default -p '{\"spec\":{\"sessionAffinity\":\"ClientIP\"}}'", "http://my-nginx:8080", "pod/ubuntu"),
        new("a policy that is Local where an endpoint is", "kubectl patch service my-nginx -n default -p '{\"spec\":{\"internalTrafficPolicy\":\"Local\"}}'", "http://my-nginx:8080", "pod/ubuntu") { NeedsToday = true },
        new("a node port, on a node without an endpoint", NodePort, "http://10.77.0.11:30080", "outside") { NeedsToday = true },
        new("a node port, on the endpoint's node", NodePort, "http://10.77.0.12:30080", "outside") { NeedsToday = true },
        new("a named target port", "kubectl patch service my-nginx -n default -p '{\"spec\":{\"ports\":[{\"port\":8080,\"targetPort\":\"http\"}]}}'", "http://my-nginx:8080", "pod/ubuntu")
        {
            Undo = "kubectl patch service my-nginx -n default -p '{\"spec\":{\"ports\":[{\"port\":8080,\"targetPort\":80}]}}'",
        },
        // What these faults make, put right by hand.
        new("a headless Service", "break headless-port-not-remapped; kubectl patch service hostnames-headless -n default -p '{\"spec\":{\"ports\":[{\"name\":\"http\",\"port\":9376,\"targetPort\":9376}]}}'", "http://hostnames-headless:9376", "pod/ubuntu"),
        new("a name for another one", "break external-name-unresolved; kubectl patch service db -n default -p '{\"spec\":{\"externalName\":\"my-nginx.default.svc.cluster.local\"}}'", "http://db:8080", "pod/ubuntu"),
        new("a load balancer's address, from a range that may use it", "break source-range-denied; kubectl patch service hostnames -n default -p '{\"spec\":{\"loadBalancerSourceRanges\":[\"10.244.0.0/16\"]}}'", "http://10.77.0.100", "pod/ubuntu") { NeedsToday = true },
        new("several requests on one connection", "--run", "curl -sS -o /dev/null -o /dev/null -o /dev/null http://hostnames/ http://hostnames/big http://hostnames/", "pod/ubuntu"),
        new("one request after the other on a connection that stays open", "--run", "curl -sS -o /dev/null -o /dev/null http://my-nginx:8080/ http://my-nginx:8080/", "pod/ubuntu"),
        new("the head of an answer alone", "--run", "curl -sS -I -o /dev/null http://my-nginx:8080/", "pod/ubuntu"),
    ];

    private const string Hostnames = "hostnames-632524106-bbpiw";
    private const string NodePort = "kubectl patch service hostnames -n default -p '{\"spec\":{\"type\":\"NodePort\",\"ports\":[{\"name\":\"http\",\"port\":80,\"targetPort\":9376,\"nodePort\":30080}]}}'";

    public void Dispose() => _lab?.Lab.Mend();

    [Theory]
    [MemberData(nameof(Cells))]
    public async Task UnusualAndRight_IsHealthy(ProxyMode mode, string what, string command, string url, string from)
    {
        ScenarioLab.SkipUnlessPossible(mode);
        var lab = _lab = await labs.Of(mode);
        string[] options = command.StartsWith("--", StringComparison.Ordinal) ? command.Split(' ') : [];
        if (options.Length == 0 && command.Length > 0)
        {
            foreach (var step in command.Split("; "))
            {
                if (step.StartsWith("break ", StringComparison.Ordinal))
                {
                    lab.Lab.Break(step["break ".Length..]);
                }
                else
                {
                    lab.Lab.Execute(step, null);
                }
            }
        }

        try
        {
            var outcome = command == "--run" ? lab.Run(["run", "--from", from, "-o", "json", "--", .. url.Split(' ')]) : lab.Trace(url, from, options);
            outcome.Output.ShouldNotBeEmpty(outcome.Error);
            outcome.Verdict.Class.ShouldBeOneOf([FailureClass.Healthy, FailureClass.SlowerThanBaseline], $"{what}: {outcome.Verdict.Sentence}");
        }
        finally
        {
            if (SetUps.First(s => s.What == what).Undo is { } undo)
            {
                lab.Lab.Execute(undo, null);
            }
            else if (command.Contains("sessionAffinity", StringComparison.Ordinal))
            {
                lab.Lab.Execute("kubectl patch service my-nginx -n default -p '{\"spec\":{\"sessionAffinity\":\"None\"}}'", null);
            }
            else if (command.Contains("Local", StringComparison.Ordinal))
            {
                lab.Lab.Execute("kubectl patch service my-nginx -n default -p '{\"spec\":{\"internalTrafficPolicy\":\"Cluster\"}}'", null);
            }
        }
    }

    private sealed record SetUp(string What, string Command, string Url, string From)
    {
        public bool NeedsToday { get; init; }

        public string? Undo { get; init; }

        public bool IsImpossibleIn(ProxyMode mode) => NeedsToday && mode == ProxyMode.Userspace;
    }
}
