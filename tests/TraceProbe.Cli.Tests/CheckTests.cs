using System.Diagnostics;
using System.IO.Compression;
using System.Text.Json.Nodes;
using System.Xml;
using System.Xml.Schema;

namespace TraceProbe.Cli.Tests;

/// <summary><c>check</c> and <c>rules</c> from saved rules and objects, as scripts and CI call them.</summary>
public sealed class CheckTests : IDisposable
{
    private static readonly string Fixture = Path.Combine(Repository.Root, "tests", "TraceProbe.Cluster.Tests", "Fixtures", "kube-proxy-1.36-nft");
    private static readonly string[] Objects = ["--cluster", .. new[] { "services", "endpointslices", "pods", "nodes" }.Select(f => Path.Combine(Fixture, $"{f}.json.gz"))];

    private readonly string _folder = Directory.CreateTempSubdirectory("tp-check-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task HealthyRules_AgreeInATableThatFits()
    {
        var (exit, output, error) = await Run(["check", "--rules", Fixture, "--node", "kp-node1", .. Objects]);
        exit.ShouldBe(0, error);
        output.ShouldContain("39 Service ports: all agree.");
        output.ShouldContain("none is ready");
        output.Split('\n').ShouldAllBe(l => l.Length <= 80);
        output.ShouldNotContain("\e");
    }

    [Fact]
    public async Task LostRule_IsAFailureInEveryForm()
    {
        var dump = Damaged("10.108.152.74/32");
        var (exit, output, _) = await Run(["check", "--rules", dump, "--node-name", "kp-node1", .. Objects]);
        exit.ShouldBe(1);
        output.ShouldContain("service-rule-missing");
        output.ShouldContain("-A KUBE-SERVICES -d 10.108.152.74/32 -p tcp -m comment --comment \"demo/web-numeric:x cluster IP\" -m tcp --dport 8081 -j KUBE-SVC-T4VLQUXARAPCGRIM");
        output.ShouldContain("1 differs");
        output.ShouldContain("ip6tables rules were not read");

        (exit, output, _) = await Run(["check", "svc/web-numeric", "-n", "demo", "-o", "json", "--rules", dump, "--node-name", "kp-node1", .. Objects]);
        exit.ShouldBe(1);
        var node = JsonNode.Parse(output)!["nodes"]![0]!;
        ((string?)node["findings"]![0]!["class"]).ShouldBe("service-rule-missing");
        ((string?)node["findings"]![0]!["rules"]![0]!["chain"]).ShouldBe("KUBE-SERVICES");
        node["ports"]!.AsArray().Count.ShouldBe(1);

        (exit, output, _) = await Run(["check", "-o", "junit", "--rules", dump, "--node-name", "kp-node1", .. Objects]);
        exit.ShouldBe(1);
        var suite = Valid(output).DocumentElement!.FirstChild!;
        suite.Attributes!["tests"]!.Value.ShouldBe(suite.SelectNodes("testcase")!.Count.ToString(System.Globalization.CultureInfo.InvariantCulture));
        suite.Attributes["failures"]!.Value.ShouldBe("1");
        suite.SelectNodes("testcase/failure")!.Cast<XmlNode>().Single().Attributes!["type"]!.Value.ShouldBe("service-rule-missing");
    }

    [Fact]
    public void JunitOfHostileRules_IsStillXml()
    {
        var report = new Core.Checks.CheckReport
        {
            Nodes =
            [
                new Core.Checks.NodeCheck
                {
                    Node = "n",
                    Families = [],
                    Ports = [new Core.Checks.CheckedPort(new Core.Cluster.ObjectRef("service", "a", "b"), "80/TCP", null, 0, Core.Checks.CheckStatus.Undetermined, [Core.Diagnosis.FailureClass.Undetermined])],
                    Findings =
                    [
                        new Core.Checks.CheckFinding { Class = Core.Diagnosis.FailureClass.Undetermined, Status = Core.Checks.CheckStatus.Undetermined, Ports = ["a/b 80/TCP"], Sentence = "]]> <x a=\"\u0001\u001b[31m\u009b31m\uffff" },
                    ],
                },
            ],
        };
        var xml = System.Text.Encoding.UTF8.GetString(Output.JunitReport.Write(report, DateTimeOffset.UnixEpoch));
        Valid(xml).SelectNodes("//error")!.Count.ShouldBe(1);
        xml.ShouldNotContain('\u009b');
    }

    [Fact]
    public async Task DamagedInput_IsToldWithFileAndLine()
    {
        var cut = Path.Combine(_folder, "cut.txt");
        File.WriteAllText(cut, string.Join('\n', Lines().Take(30)));
        var (exit, _, error) = await Run(["check", "--rules", cut, .. Objects]);
        exit.ShouldBe(4);
        error.ShouldContain(cut);
        error.ShouldContain("Line 30");

        var other = Path.Combine(_folder, "other.txt");
        File.WriteAllText(other, "hello\n");
        (exit, _, error) = await Run(["check", "--rules", other, .. Objects]);
        exit.ShouldBe(4);
        error.ShouldContain("is no dump of rules");

        (exit, _, error) = await Run(["check", "--rules", Fixture, "--cluster", other]);
        exit.ShouldBe(4);
        error.ShouldContain(other);

        (exit, _, error) = await Run(["check", "--rules", Fixture]);
        exit.ShouldBe(2);
        error.ShouldContain("--cluster");
        (await Run(["check", "svc/web-numerc", "-n", "demo", "--rules", Fixture, .. Objects])).Error.ShouldContain("svc/demo/web-numeric");
        (await Run(["check", "--rules", Path.Combine(_folder, "no-such-file"), .. Objects])).Exit.ShouldBe(4);
    }

    [Fact]
    public async Task PortThatTheServiceLacks_IsAFailure()
    {
        var (exit, output, _) = await Run(["check", "svc/web-numeric:99", "-n", "demo", "--rules", Fixture, "--node", "kp-node1", .. Objects]);
        exit.ShouldBe(1);
        output.ShouldContain("port-not-in-service");
        output.ShouldContain("8081/TCP");
    }

    [Fact]
    public async Task PartOfTheRules_LeavesTheNodeItselfUndetermined()
    {
        var (exit, output, _) = await Run(["check", "--rules", Fixture, "-n", "prod", .. Objects]);
        exit.ShouldBe(0);
        output.ShouldContain("its name is not known");
        output.ShouldContain("1 Service port: all agree.");
    }

    [Fact]
    public async Task Walk_PrintsEachRuleAndWhereWaysPart()
    {
        var (exit, output, error) = await Run(["rules", "walk", "--from", "pod/demo/web-1", "--to", "svc/demo/web-numeric:8081", "--reply", "--width", "120", "--rules", Fixture, "--node", "kp-node1", .. Objects]);
        exit.ShouldBe(0, error);
        output.ShouldContain("goes on in KUBE-SVC-T4VLQUXARAPCGRIM");
        output.ShouldContain("33.33 %");
        // Its own endpoint: masqueraded, and the answer comes back from the Service's address.
        output.ShouldContain("translates to 10.244.1.2:8080");
        output.ShouldContain("sets the mark 0x4000");
        output.ShouldContain("goes on as 10.108.152.74:8081 > 10.244.1.2:40000");

        (exit, output, _) = await Run(["rules", "walk", "--from", "node", "--to", "10.96.0.10:53/udp", "-o", "json", "--rules", Fixture, "--node", "kp-node1", .. Objects]);
        exit.ShouldBe(0);
        var walk = JsonNode.Parse(output)!;
        ((string?)walk["outcome"]).ShouldBe("Translated");
        walk["ways"]!.AsArray().Count.ShouldBe(2);
        walk["ways"]![0]!["steps"]!.AsArray().Select(s => (string?)s!["rule"]!["table"]).ShouldContain("nat");
    }

    [Fact]
    public async Task HostileRules_NeitherPaintNorFloodTheTerminal()
    {
        var dump = Path.Combine(_folder, "hostile.txt");
        File.WriteAllText(dump, $"*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -m comment --comment \"\e[31m\u009b\a\u202e{new string('x', 1_000_000)}\" -j ACCEPT\nCOMMIT\n");
        var (exit, output, _) = await Run(["rules", "walk", "--to", "10.96.0.10:53", "--rules", dump]);
        exit.ShouldBe(0);
        output.ShouldContain("\\x1b[31m\\x9b\\x07\\u202exxx");
        output.ShouldNotContain("\e");
        output.Length.ShouldBeLessThan(10_000);
    }

    [Theory]
    [InlineData("svc/web-numeric:http", "it has 8081/TCP (x)")]
    [InlineData("svc/", "is no Service")]
    [InlineData("pod/web-1", "is no Service")]
    [InlineData("svc/a/b/c", "is no Service")]
    [InlineData("svc/web-numerc:8081", "svc/demo/web-numeric")]
    public async Task ServiceThatIsNone_IsToldBeforeAnythingIsRead(string service, string words)
    {
        var (exit, output, error) = await Run(["check", service, "-n", "demo", "--rules", Fixture, .. Objects]);
        exit.ShouldBe(2);
        output.ShouldBeEmpty();
        error.ShouldContain(words);
    }

    [Fact]
    public async Task PortByItsName_IsTheOneChecked()
    {
        var (exit, output, _) = await Run(["check", "svc/demo/web-numeric:x", "-o", "table", "--rules", Fixture, "--node", "kp-node1", .. Objects]);
        exit.ShouldBe(0);
        output.ShouldContain("1 Service port: all agree.");
    }

    [Fact]
    public async Task ObjectsWithoutServices_AreNothingToCompareWith()
    {
        var (exit, output, error) = await Run(["check", "--rules", Fixture, "--cluster", Path.Combine(Fixture, "pods.json.gz")]);
        exit.ShouldBe(4);
        output.ShouldBeEmpty();
        error.ShouldContain("kubectl get services -A -o json");
    }

    [Theory]
    [InlineData("10.244.1.2", "svc/demo/web-numeric:x", "from pod demo/web-1")]
    [InlineData("node/kp-node1", "demo/web-numeric:8081", "from kp-node1, on kp-node1")]
    [InlineData("node/kp-node2", "svc/demo/web-numeric:8081", "from node kp-node2")]
    [InlineData("outside", "svc/kube-system/kube-dns:dns-tcp", "TCP 198.18.0.1:40000 > 10.96.0.10:53")]
    public async Task SenderAndDestinationByName_AreWalked(string from, string to, string words)
    {
        var (exit, output, error) = await Run(["rules", "walk", "--from", from, "--to", to, "--width", "200", "--rules", Fixture, "--node", "kp-node1", .. Objects]);
        exit.ShouldBe(0, error);
        output.ShouldContain(words);
    }

    [Theory]
    [InlineData("pod/demo/web-11", "10.96.0.10:53", "pod/web-1")]
    [InlineData("node/kp-node9", "10.96.0.10:53", "node/kp-node1")]
    [InlineData("outside", "fd00::1:80", "give [fd00::1:80]:PORT")]
    [InlineData("outside", "10.96.0.10:99999", "is no destination")]
    [InlineData("outside", "10.96.0.10:53/icmp", "is no destination")]
    [InlineData("outside", "web-numeric:8081", "svc/demo/web-numeric")]
    public async Task SenderOrDestinationThatIsNone_IsToldWithWhatIsNear(string from, string to, string words)
    {
        var (exit, _, error) = await Run(["rules", "walk", "--from", from, "--to", to, "--rules", Fixture, "--node", "kp-node1", .. Objects]);
        exit.ShouldBe(2);
        error.ShouldContain(words);
    }

    [Theory]
    [InlineData("rules walk --rules {0} --to 10.96.0.10", "has no port")]
    [InlineData("rules walk --rules {0} --to 10.96.0.10:53 --from nobody", "is nobody who sends")]
    [InlineData("rules walk --rules {0} --to svc/web:80", "give them with --cluster")]
    [InlineData("rules walk --rules {0} --to 10.96.0.10:53 --from fd00::1", "different address families")]
    [InlineData("rules walk --rules {0} --to 10.96.0.10:53 --mark much", "is no mark")]
    [InlineData("rules walk --rules {0}", "--to")]
    public async Task WalkAskedWrongly_IsUsage(string arguments, string words)
    {
        var (exit, _, error) = await Run([.. string.Format(System.Globalization.CultureInfo.InvariantCulture, arguments, Fixture).Split(' ')]);
        exit.ShouldBe(2, error);
        error.ShouldContain(words);
    }

    [Theory]
    [InlineData("--node-name kp-nod1", "kp-node1")]
    [InlineData("-n dmo", "demo")]
    public async Task MistypedNodeOrNamespace_IsNotComparedAsIfItWereEmpty(string arguments, string nearest)
    {
        var (exit, output, error) = await Run(["check", "--rules", Fixture, .. Objects, .. arguments.Split(' ')]);
        exit.ShouldBe(2, output);
        error.ShouldContain(nearest);
    }

    [Fact]
    public async Task NobodyListensToStandardError_AndTheAnswerIsGivenAllTheSame()
    {
        var cut = Path.Combine(_folder, "cut");
        await File.WriteAllTextAsync(cut, "*nat\n:A - [0:0]\n", TestContext.Current.CancellationToken);
        using var shell = Process.Start(new ProcessStartInfo("/bin/sh", ["-c", "exec \"$0\" rules mode --rules \"$1\" 2>&-", Path.Combine(AppContext.BaseDirectory, "traceprobe"), cut]))!;
        await shell.WaitForExitAsync(TestContext.Current.CancellationToken);
        shell.ExitCode.ShouldBe(4);
    }

    [Fact]
    public async Task NobodyListensToStandardOutput_AndThatIsSaid()
    {
        string[] arguments = ["check", "--rules", Fixture, .. Objects];
        var start = new ProcessStartInfo("/bin/sh", ["-c", "exec \"$0\" \"$@\" >&-", Path.Combine(AppContext.BaseDirectory, "traceprobe"), .. arguments]) { RedirectStandardError = true };
        using var shell = Process.Start(start)!;
        var error = await shell.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
        await shell.WaitForExitAsync(TestContext.Current.CancellationToken);
        shell.ExitCode.ShouldBe(4, error);
        error.ShouldContain("standard output");
    }

    [Fact]
    public async Task InterruptWhileItReads_EndsItAtOnce()
    {
        var ignored = (await File.ReadAllLinesAsync("/proc/self/status", TestContext.Current.CancellationToken)).First(l => l.StartsWith("SigIgn:", StringComparison.Ordinal)).Split('\t')[1];
        Assert.SkipWhen((Convert.ToUInt64(ignored, 16) & 2) != 0, "needs to be started where SIGINT is not ignored");

        // The objects come through a pipe, and do not end.
        var start = new ProcessStartInfo(Path.Combine(AppContext.BaseDirectory, "traceprobe"), ["check", "--rules", Fixture, "--cluster", "-"])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            Environment = { ["TRACEPROBE_STATE"] = _folder },
        };
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        limit.CancelAfter(TimeSpan.FromSeconds(60));
        using var process = Process.Start(start)!;
        await process.StandardInput.WriteAsync("{\"kind\":\"List\",");
        await process.StandardInput.FlushAsync(limit.Token);
        await Task.Delay(500, limit.Token);
        process.HasExited.ShouldBeFalse();
        using (var kill = Process.Start("kill", ["-INT", process.Id.ToString(System.Globalization.CultureInfo.InvariantCulture)]))
        {
            await kill.WaitForExitAsync(limit.Token);
        }

        await process.WaitForExitAsync(limit.Token);
        process.ExitCode.ShouldBe(130);
        (await process.StandardOutput.ReadToEndAsync(limit.Token)).ShouldBeEmpty();
    }

    [Fact]
    public async Task Mode_IsToldWithItsEvidence()
    {
        var (exit, output, _) = await Run(["rules", "mode", "--rules", Path.Combine(Repository.Root, "tests", "TraceProbe.Cluster.Tests", "Fixtures", "kube-proxy-1.36-nftables")]);
        exit.ShouldBe(0);
        output.ShouldContain("nftables");
        (await Run(["rules", "mode", "--rules", Fixture])).Output.ShouldContain("iptables-nft");
    }

    private static IEnumerable<string> Lines()
    {
        using var reader = new StreamReader(new GZipStream(File.OpenRead(Path.Combine(Fixture, "iptables-save-c.txt.gz")), CompressionMode.Decompress));
        return reader.ReadToEnd().Split('\n');
    }

    private string Damaged(string without)
    {
        var path = Path.Combine(_folder, "damaged.txt");
        File.WriteAllText(path, string.Join('\n', Lines().Where(l => !l.Contains($"-A KUBE-SERVICES -d {without}", StringComparison.Ordinal))));
        return path;
    }

    private static XmlDocument Valid(string xml)
    {
        var settings = new XmlReaderSettings { ValidationType = ValidationType.Schema };
        settings.Schemas.Add(null, Path.Combine(Repository.Root, "tests", "TraceProbe.Cli.Tests", "junit.xsd"));
        settings.ValidationEventHandler += (_, e) => throw new XmlSchemaValidationException(e.Message);
        var document = new XmlDocument();
        using var reader = XmlReader.Create(new StringReader(xml), settings);
        document.Load(reader);
        return document;
    }

    private async Task<(int Exit, string Output, string Error)> Run(string[] arguments)
    {
        var start = new ProcessStartInfo(Path.Combine(AppContext.BaseDirectory, "traceprobe"), arguments)
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            Environment = { ["TRACEPROBE_STATE"] = _folder, ["NO_COLOR"] = "1" },
        };
        start.Environment.Remove("TRACEPROBE_LAB");
        start.Environment.Remove("COLUMNS");
        using var process = Process.Start(start)!;
        var output = process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
        var error = process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        return (process.ExitCode, await output, await error);
    }
}
