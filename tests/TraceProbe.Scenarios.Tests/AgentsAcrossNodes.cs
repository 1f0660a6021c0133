using System.Diagnostics;
using System.Text.Json;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Lab;

namespace TraceProbe.Scenarios.Tests;

/// <summary>A lab with an agent on each node, which sees that node's namespaces alone: traces across nodes, and what all of them tell.</summary>
public sealed class AgentsAcrossNodes : IDisposable
{
    private readonly string _name = ScenarioLab.NewName();

    public void Dispose() => global::TraceProbe.Lab.Lab.Down(_name);

    [Fact]
    public void RequestToAnotherNode_IsFollowedThere_AndItsFailureToldWithTheAgentsHelpOnly()
    {
        ScenarioLab.SkipUnlessPossible(ProxyMode.IptablesNft);
        Run("lab", "up", "--name", _name, "--agents", "--one-in", "2").ExitCode.ShouldBe(0);

        // One of the two pods is on the other node; each gets half of the connections.
        var nodes = new HashSet<string>();
        for (var i = 0; i < 20 && nodes.Count < 2; i++)
        {
            var healthy = Trace();
            healthy.Verdict.Class.ShouldBe(FailureClass.Healthy, healthy.Error);
            healthy.ExitCode.ShouldBe(0);
            nodes.UnionWith(healthy.Report.Timeline.Where(s => s.Text.Contains("accepts", StringComparison.Ordinal) || s.Text.Contains("arrives", StringComparison.Ordinal)).Select(s => s.Place ?? ""));
        }

        nodes.Count(n => n.StartsWith("pod/default/my-nginx", StringComparison.Ordinal)).ShouldBe(2);

        using var watch = Process.Start(new ProcessStartInfo(ScenarioLab.TraceProbe, ["watch", "--lab", _name, "--alerts", "-o", "json"]) { RedirectStandardOutput = true, RedirectStandardError = true })!;
        var told = new List<JsonElement>();
        watch.OutputDataReceived += (_, line) =>
        {
            lock (told)
            {
                if (line.Data is { Length: > 0 } text && JsonDocument.Parse(text).RootElement is var message && message.TryGetProperty("alert", out var alert))
                {
                    told.Add(alert);
                }
            }
        };
        watch.BeginOutputReadLine();
        try
        {
            Run("lab", "break", "wrong-target-port", "--lab", _name).ExitCode.ShouldBe(0);
            var failed = Trace();
            failed.Verdict.Class.ShouldBe(FailureClass.WrongTargetPort, failed.Error);
            failed.Verdict.Confidence.ShouldBe(Confidence.Certain);
            failed.ExitCode.ShouldBe(1);

            var start = Stopwatch.GetTimestamp();
            do
            {
                Stopwatch.GetElapsedTime(start).ShouldBeLessThan(TimeSpan.FromSeconds(60), "no alert");
                Run("lab", "exec", "--lab", _name, "--on", "pod/ubuntu", "--", "curl", "-s", "-m", "3", "-o", "/dev/null", Url.ByName);
            }
            while (Alerts().Count == 0);
            var opened = Alerts()[0];
            opened.GetProperty("class").GetString().ShouldBe("wrong-target-port");
            opened.GetProperty("service").GetString().ShouldBe("default/my-nginx:8080");
            opened.GetProperty("node").GetString().ShouldBe("node-1");
            opened.GetProperty("pod").GetString().ShouldBe("default/ubuntu");

            // Whoever looks at the Service or at the pod that asks finds the cause there.
            foreach (var about in (string[])["service/my-nginx", "pod/ubuntu"])
            {
                var described = "";
                for (var i = 0; i < 50 && !described.Contains("WrongTargetPort", StringComparison.Ordinal); i++)
                {
                    Thread.Sleep(200);
                    using var kubectl = Process.Start(new ProcessStartInfo("kubectl", ["--kubeconfig", $"/run/traceprobe/labs/{_name}/kubeconfig", "describe", about]) { RedirectStandardOutput = true })!;
                    described = kubectl.StandardOutput.ReadToEnd();
                }

                described.ShouldContain("WrongTargetPort");
                described.ShouldContain("traceprobe");
            }
        }
        finally
        {
            watch.Kill();
            watch.WaitForExit();
        }

        // With one agent alone, what happens on the other node is not made up.
        Run("lab", "mend", "--lab", _name).ExitCode.ShouldBe(0);
        var alone = Run("trace", Url.ByName, "--lab", _name, "--from", "pod/ubuntu", "-o", "json", "--agent", $"/run/traceprobe/labs/{_name}/agents/node-1/agent.sock");
        alone.Report.Verdict.NotSeen.ShouldContain(n => n.Contains("node-2", StringComparison.Ordinal), alone.Output);
        var nobody = Run("trace", Url.ByName, "--lab", _name, "--from", "pod/ubuntu", "--agent", $"/run/traceprobe/labs/{_name}/agents/node-2/agent.sock");
        nobody.ExitCode.ShouldBe(4);
        nobody.Error.ShouldContain("pod/default/ubuntu is on node-1, and no agent there answers; those that do are on node-2");

        List<JsonElement> Alerts()
        {
            lock (told)
            {
                return [.. told];
            }
        }
    }

    private Outcome Trace() => Run("trace", Url.ByName, "--lab", _name, "--from", "pod/ubuntu", "--agents", "-o", "json", "--timeout", "3s");

    private static Outcome Run(params string[] arguments)
    {
        using var process = Process.Start(new ProcessStartInfo(ScenarioLab.TraceProbe, arguments) { RedirectStandardOutput = true, RedirectStandardError = true })!;
        return Outcome.Of(process);
    }
}
