using System.Diagnostics;
using System.Globalization;
using System.Text.RegularExpressions;
using TraceProbe.Agent.Alerts;
using TraceProbe.Cli.Commands;
using TraceProbe.Cluster.Api;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Diagnosis;
using YamlDotNet.RepresentationModel;

namespace TraceProbe.Cli.Tests.Deploy;

/// <summary>What deploy/ tells a cluster is what the program does there: its flags, its ports, and what it asks for.</summary>
public partial class ManifestTests
{
    private const string AgentContainer = "agent";

    private static readonly string Folder = Path.Combine(Repository.Root, "deploy");
    private static readonly string Base = Path.Combine(Folder, "base");
    private static readonly YamlMappingNode DaemonSet = (YamlMappingNode)Documents(Path.Combine(Base, "daemonset.yaml")).Single();

    public static TheoryData<string> Kustomizations
        => [.. Directory.EnumerateFiles(Folder, "kustomization.yaml", SearchOption.AllDirectories).Select(f => Path.GetRelativePath(Folder, Path.GetDirectoryName(f)!)).Order(StringComparer.Ordinal)];

    // A component is built by the overlay with it.
    public static TheoryData<string> Buildable => [.. Kustomizations.Select(k => k.Data).Where(k => !k.StartsWith("components", StringComparison.Ordinal))];

    private static YamlNode Container => At(DaemonSet, "spec", "template", "spec", "containers", AgentContainer)!;

    [Fact]
    public void EveryYamlFile_CanBeRead()
    {
        var files = Directory.EnumerateFiles(Folder, "*.yaml", SearchOption.AllDirectories).ToList();
        files.Count.ShouldBeGreaterThan(10);
        foreach (var file in files)
        {
            Documents(file).ShouldNotBeEmpty(file);
        }
    }

    [Fact]
    public void ArgumentsOfTheDaemonSet_AreTheAgents() => ParsesAsAgent(DaemonSet);

    [Fact]
    public void PortsAndLabel_AreThoseByWhichAgentsAreFound()
    {
        var ports = ((YamlSequenceNode)At(Container, "ports")!).ToDictionary(p => Text(p, "name"), p => int.Parse(Text(p, "containerPort"), CultureInfo.InvariantCulture));
        ports["api"].ShouldBe(AgentAddresses.PodPort);
        var arguments = Arguments(DaemonSet);
        foreach (var (name, port) in ports)
        {
            arguments[arguments.IndexOf($"--{name}") + 1].ShouldBe($":{port}");
        }

        foreach (var labels in (YamlNode?[])[At(DaemonSet, "spec", "template", "metadata", "labels"), At(DaemonSet, "spec", "selector", "matchLabels")])
        {
            Text(labels!, AgentAddresses.PodLabel).ShouldBe(AgentAddresses.PodName);
        }

        var policies = Documents(Path.Combine(Base, "networkpolicy.yaml")).ToList();
        policies.SelectMany(p => At(p, "spec", "ingress") as YamlSequenceNode ?? []).SelectMany(r => (YamlSequenceNode)At(r, "ports")!).Select(p => int.Parse(Text(p, "port"), CultureInfo.InvariantCulture))
            .ShouldBe(ports.Values, ignoreOrder: true);
        var monitor = Documents(Path.Combine(Folder, "components", "podmonitor", "podmonitor.yaml")).Single();
        Text(At(monitor, "spec", "selector", "matchLabels")!, AgentAddresses.PodLabel).ShouldBe(AgentAddresses.PodName);
        Text(((YamlSequenceNode)At(monitor, "spec", "podMetricsEndpoints")!).Single(), "port").ShouldBeOneOf([.. ports.Keys]);
    }

    [Fact]
    public void Agent_IsNotPrivileged_AndWritesOnlyWhereAVolumeIs()
    {
        var context = At(Container, "securityContext")!;
        Text(context, "privileged").ShouldBe("false");
        Text(context, "allowPrivilegeEscalation").ShouldBe("false");
        Text(context, "readOnlyRootFilesystem").ShouldBe("true");
        At(context, "capabilities", "drop").ShouldBeOfType<YamlSequenceNode>().Select(c => c.ToString()).ShouldBe(["ALL"]);
        Text(At(DaemonSet, "spec", "template", "spec", "securityContext", "seccompProfile")!, "type").ShouldBe("RuntimeDefault");
        var mounted = ((YamlSequenceNode)At(Container, "volumeMounts")!).Select(m => Text(m, "mountPath")).ToList();
        new TraceProbe.Agent.AgentSettings().State.ShouldStartWith(mounted.Single(m => m != "/tmp") + "/");
        mounted.ShouldContain("/tmp");
    }

    [Fact]
    public void EveryCapability_HasItsReason_AndIsKnownToTheDoctor()
    {
        var lines = Capability().Matches(File.ReadAllText(Path.Combine(Base, "daemonset.yaml")));
        var added = ((YamlSequenceNode)At(Container, "securityContext", "capabilities", "add")!).Select(c => c.ToString()).ToList();
        lines.Select(m => m.Groups[1].Value).ShouldBe(added);
        lines.ShouldAllBe(m => m.Groups[2].Value.Trim().Length > 20);
        added.ShouldBeUnique();
        var known = TraceProbe.Capture.Kernel.KernelFeatures.Probe().Where(c => c.Name.StartsWith("CAP_", StringComparison.Ordinal)).Select(c => c.Name[4..]).ToList();
        known.ShouldBeSubsetOf(added);
        added.ShouldBeSubsetOf(known);
    }

    [Fact]
    public async Task Permissions_AreThoseThatTheAgentAsksFor_AndNoOthers()
    {
        var asked = new HashSet<string>(StringComparer.Ordinal);
        await AskAsync(["v1"], asked);
        await AskAsync([], asked);

        // Everybody who is known may ask which APIs there are (system:discovery).
        asked.RemoveWhere(a => a.Contains(" /", StringComparison.Ordinal));
        var granted = Granted(Path.Combine(Base, "rbac.yaml")).Concat(Granted(Path.Combine(Folder, "components", "openshift", "rbac.yaml"))).ToList();
        granted.ShouldBeUnique();
        granted.Order(StringComparer.Ordinal).ShouldBe(asked.Order(StringComparer.Ordinal));
    }

    [Theory]
    [InlineData("base")]
    [InlineData("components/openshift")]
    public void EveryPermission_HasItsReason(string folder)
    {
        var lines = File.ReadAllLines(Path.Combine(Folder, folder, "rbac.yaml"));
        for (var i = 0; i < lines.Length; i++)
        {
            if (lines[i].StartsWith("  - apiGroups:", StringComparison.Ordinal))
            {
                lines[i - 1].ShouldStartWith("  # ", customMessage: $"{folder}/rbac.yaml, line {i + 1}");
            }
        }
    }

    [Fact]
    public void Bindings_AreForTheAgentsAccount()
    {
        var account = Documents(Path.Combine(Base, "serviceaccount.yaml")).Single();
        Text(At(DaemonSet, "spec", "template", "spec")!, "serviceAccountName").ShouldBe(Text(At(account, "metadata")!, "name"));
        foreach (var binding in Documents(Path.Combine(Base, "rbac.yaml")).Where(d => At(d, "subjects") is not null))
        {
            var subject = ((YamlSequenceNode)At(binding, "subjects")!).Single();
            Text(subject, "name").ShouldBe(Text(At(account, "metadata")!, "name"));
            Text(subject, "namespace").ShouldBe(Text(At(account, "metadata")!, "namespace"));
        }
    }

    [Theory]
    [MemberData(nameof(Kustomizations))]
    public void Kustomization_NamesFilesThatExist_AndLeavesNoneOut(string folder)
    {
        var path = Path.Combine(Folder, folder);
        var kustomization = Documents(Path.Combine(path, "kustomization.yaml")).Single();
        var listed = ((string[])["resources", "components"]).SelectMany(k => At(kustomization, k) as YamlSequenceNode ?? []).Select(n => n.ToString()).ToList();
        foreach (var entry in listed)
        {
            (File.Exists(Path.Combine(path, entry)) || File.Exists(Path.Combine(path, entry, "kustomization.yaml"))).ShouldBeTrue(entry);
        }

        Directory.EnumerateFiles(path, "*.yaml").Select(f => Path.GetFileName(f)!).Where(f => f != "kustomization.yaml").ShouldBeSubsetOf(listed);
    }

    [Theory]
    [MemberData(nameof(Buildable))]
    public async Task Kubectl_BuildsIt_AndTheAgentTakesItsArguments(string folder)
    {
        var kubectl = (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':').Select(f => Path.Combine(f, "kubectl")).FirstOrDefault(File.Exists);
        Assert.SkipWhen(kubectl is null, "There is no kubectl here: apt-get install kubernetes-client.");
        using var process = Process.Start(new ProcessStartInfo(kubectl!, ["kustomize", Path.Combine(Folder, folder)]) { RedirectStandardOutput = true, RedirectStandardError = true })!;
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        limit.CancelAfter(TimeSpan.FromMinutes(2));
        var (text, errors) = (process.StandardOutput.ReadToEndAsync(limit.Token), process.StandardError.ReadToEndAsync(limit.Token));
        await process.WaitForExitAsync(limit.Token);
        process.ExitCode.ShouldBe(0, await errors);
        var stream = new YamlStream();
        stream.Load(new StringReader(await text));
        var built = stream.Documents.Select(d => d.RootNode).ToList();
        var daemonSet = built.Single(d => Text(d, "kind") == "DaemonSet");
        ParsesAsAgent(daemonSet);
        Text(At(daemonSet, "spec", "template", "spec", "containers", AgentContainer)!, "image").ShouldEndWith($":{typeof(Program).Assembly.GetName().Version!.ToString(3)}");
        built.Where(d => At(d, "metadata", "namespace") is { } ns && ns.ToString() == "kube-system").Select(d => Text(d, "kind")).ShouldBe(["Role", "RoleBinding"], ignoreOrder: true);
        if (folder.EndsWith("otlp", StringComparison.Ordinal) || folder.EndsWith("alertmanager", StringComparison.Ordinal))
        {
            Arguments(daemonSet).Count.ShouldBe(Arguments(DaemonSet).Count + 2);
        }
    }

    [Fact]
    public void Image_HasTheToolsThatAreRunOnANode()
    {
        var dockerfile = File.ReadAllText(Path.Combine(Repository.Root, "Dockerfile"));
        var installed = dockerfile[dockerfile.LastIndexOf("FROM ", StringComparison.Ordinal)..];
        var tools = Directory.EnumerateFiles(Path.Combine(Repository.Root, "src", "TraceProbe.Cluster"), "*.cs").SelectMany(f => ToolRun().Matches(File.ReadAllText(f)))
            .SelectMany(m => Quoted().Matches(m.Value)).Select(m => m.Groups[1].Value).Distinct().ToList();
        tools.ShouldContain("nft");
        foreach (var tool in tools)
        {
            var package = tool switch
            {
                "nft" => "nftables",
                "ip" => "iproute2",
                "ipset" => "ipset",
                _ when tool.EndsWith("-save", StringComparison.Ordinal) => "iptables",
                _ => $"a package for {tool}",
            };
            installed.ShouldMatch($@"\b{package}\b");
        }

        installed.ShouldMatch(@"\blibbpf1\b");
        installed.ShouldMatch(@"\blibpcap0\.8");
    }

    [Fact]
    public void Compose_MountsFilesThatExist_AndPinsItsImages()
    {
        var folder = Path.Combine(Folder, "compose");
        foreach (var (name, service) in (YamlMappingNode)At(Documents(Path.Combine(folder, "compose.yaml")).Single(), "services")!)
        {
            Text(service, "image").ShouldMatch(@":v?[0-9]+\.[0-9]+\.[0-9]+$");
            foreach (var mounted in (At(service, "volumes") as YamlSequenceNode ?? []).Select(v => Path.Combine(folder, v.ToString().Split(':')[0])))
            {
                (File.Exists(mounted) || Directory.Exists(mounted)).ShouldBeTrue($"{name}: {mounted}");
            }
        }

        var collector = Documents(Path.Combine(folder, "collector.yaml")).Single();
        foreach (var (_, pipeline) in (YamlMappingNode)At(collector, "service", "pipelines")!)
        {
            foreach (var (kind, used) in (YamlMappingNode)pipeline)
            {
                ((YamlSequenceNode)used).ShouldAllBe(u => At(collector, kind.ToString(), u.ToString()) != null);
            }
        }
    }

    private static void ParsesAsAgent(YamlNode daemonSet)
    {
        var arguments = Arguments(daemonSet);
        arguments[0].ShouldBe("agent");
        var parsed = AgentCommand.Create().Parse(arguments.Skip(1).ToArray());
        parsed.Errors.ShouldBeEmpty();
        parsed.UnmatchedTokens.ShouldBeEmpty();
    }

    private static List<string> Arguments(YamlNode daemonSet) => [.. ((YamlSequenceNode)At(daemonSet, "spec", "template", "spec", "containers", AgentContainer, "args")!).Select(a => a.ToString())];

    // Reads and follows a cluster as the agent does, and asks for a token's owner; what the server was asked for, in RBAC's words.
    private static async Task AskAsync(string[] sliceVersions, HashSet<string> asked)
    {
        var token = TestContext.Current.CancellationToken;
        await using var server = await TraceProbe.Tests.ScriptedApiServer.StartAsync();
        server.SliceVersions = sliceVersions;
        server.Instead = async context =>
        {
            var isWatch = context.Request.Query.ContainsKey("watch");
            lock (asked)
            {
                asked.Add(InRbacsWords(context.Request.Method, context.Request.Path.Value!, isWatch));
            }

            if (context.Request.Method is not ("POST" or "PATCH"))
            {
                return false;
            }

            // As though each Event had been told before.
            context.Response.StatusCode = context.Request.Path.Value!.EndsWith("/events", StringComparison.Ordinal) ? 409 : 201;
            await context.Response.Body.WriteAsync("""{"status":{"authenticated":true,"allowed":true,"user":{"username":"jane"}}}"""u8.ToArray(), context.RequestAborted);
            return true;
        };
        using var client = new ApiClient(server.Server);
        await using (await LiveCluster.FollowAsync(client, token))
        {
            for (var waited = 0; server.Watches < 7; waited++)
            {
                waited.ShouldBeLessThan(600, $"{server.Watches} watches of 7 came");
                await Task.Delay(50, token);
            }
        }

        var about = new ObjectReference { Kind = "Service", Namespace = "default", Name = "web", Uid = "1" };
        var alert = new Alert { Key = new AlertKey(FailureClass.NoListener, "default/web:80", "node/node-1"), Node = "node-1", FirstSeen = DateTimeOffset.UnixEpoch, LastSeen = DateTimeOffset.UnixEpoch, Count = 3, Attempts = 3, Sentence = "Nobody listens.", Example = new AlertExample { Service = about } };
        await new EventSink(client).SendAsync(new AlertChange(AlertEvent.Opened, alert), token);
        var owner = await client.ReviewTokenAsync("a token", token);
        (await client.MayAsync(owner!, "get", "pods/log", null, null, token)).IsAllowed.ShouldBeTrue();
    }

    // GET /apis/discovery.k8s.io/v1/endpointslices?watch=1 is "watch discovery.k8s.io/endpointslices".
    private static string InRbacsWords(string method, string path, bool isWatch)
    {
        if (Resource().Match(path) is not { Success: true } match)
        {
            return $"get {path}";
        }

        var name = match.Groups["name"].Value;
        var verb = method == "POST" ? "create" : method == "PATCH" ? "patch" : isWatch ? "watch" : name.Length > 0 ? "get" : "list";
        var of = name.Length > 0 && verb == "get" ? $" {match.Groups["namespace"].Value}/{name}" : "";
        return $"{verb} {match.Groups["group"].Value}/{match.Groups["resource"].Value}{of}".Replace(" /", " core/", StringComparison.Ordinal);
    }

    private static IEnumerable<string> Granted(string file)
        => from document in Documents(file)
           where Text(document, "kind") is "Role" or "ClusterRole"
           from rule in (YamlSequenceNode)At(document, "rules")!
           from verb in (YamlSequenceNode)At(rule, "verbs")!
           from resource in (YamlSequenceNode)At(rule, "resources")!
           from name in At(rule, "resourceNames") is YamlSequenceNode names ? names.Select(n => $" {Text(At(document, "metadata")!, "namespace")}/{n}") : [""]
           let fromGroup = ((YamlSequenceNode)At(rule, "apiGroups")!).Single().ToString()
           select $"{verb} {(fromGroup.Length == 0 ? "core" : fromGroup)}/{resource}{name}";

    private static IEnumerable<YamlNode> Documents(string file)
    {
        var stream = new YamlStream();
        using var reader = new StreamReader(file);
        stream.Load(reader);
        return stream.Documents.Select(d => d.RootNode);
    }

    // A member of a mapping, or the item of a sequence with that name; null when there is none.
    private static YamlNode? At(YamlNode node, params string[] path)
    {
        var at = node;
        foreach (var step in path)
        {
            at = at switch
            {
                YamlMappingNode mapping => mapping.Children.TryGetValue(new YamlScalarNode(step), out var child) ? child : null,
                YamlSequenceNode sequence => sequence.FirstOrDefault(i => At(i, "name")?.ToString() == step),
                _ => null,
            };
        }

        return at;
    }

    private static string Text(YamlNode node, string member) => At(node, member)?.ToString() ?? throw new InvalidDataException($"There is no {member} in {node}.");

    [GeneratedRegex(@"^ +- ([A-Z_]+) # (.+)$", RegexOptions.Multiline)]
    private static partial Regex Capability();

    [GeneratedRegex(@"^/(?:api|apis/(?<group>[^/]+))/v[^/]+(?:/namespaces/(?<namespace>[^/]+))?/(?<resource>[^/]+)(?:/(?<name>[^/]+))?$", RegexOptions.ExplicitCapture)]
    private static partial Regex Resource();

    [GeneratedRegex(@"Tool\.Find\([^;]*?\)( \?\?|;)")]
    private static partial Regex ToolRun();

    [GeneratedRegex("\"([^\"]+)\"")]
    private static partial Regex Quoted();
}
