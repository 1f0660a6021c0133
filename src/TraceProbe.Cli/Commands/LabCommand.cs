using System.CommandLine;
using System.CommandLine.Completions;
using System.Globalization;
using TraceProbe.Cli.Output;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Net;
using TraceProbe.Lab;

namespace TraceProbe.Cli.Commands;

/// <summary><c>traceprobe lab …</c>: a small cluster of this machine's own network namespaces, to learn, demonstrate and test with.</summary>
internal static class LabCommand
{
    /// <summary>The name of a lab that is not given another.</summary>
    public const string DefaultName = "demo";

    // The first word of a mode is the one it is called by; "iptables" is what kube-proxy's --proxy-mode says.
    private static readonly (string Word, ProxyMode Mode)[] Modes =
    [
        ("iptables-nft", ProxyMode.IptablesNft),
        ("iptables", ProxyMode.IptablesNft),
        ("iptables-legacy", ProxyMode.IptablesLegacy),
        ("nftables", ProxyMode.Nftables),
        ("ipvs", ProxyMode.Ipvs),
        ("userspace", ProxyMode.Userspace),
    ];

    /// <summary>The command with its verbs.</summary>
    public static Command Create() => new Verb("lab", "Build a small cluster of this machine's own network namespaces, break it, and mend it. Needs root; nothing in it leaves the machine.")
    {
        Subcommands = { Up(), Down(), Break(), Mend(), Exec(), List(), Faults(), Status() },
        Examples =
        [
            ("sudo traceprobe lab up", "two nodes, pods, a DNS server, kube-proxy's rules"),
            ("sudo traceprobe trace http://my-nginx:8080 --from pod/ubuntu", "follow a healthy request in it"),
            ("sudo traceprobe lab break wrong-target-port", "break it, then trace again"),
            ("sudo traceprobe lab down", "remove all of it"),
        ],
    };

    /// <summary>The lab that is meant: by option, by $TRACEPROBE_LAB, or the only one there is; null when there is none.</summary>
    /// <exception cref="OperatorException">There are several, and none was named.</exception>
    public static string? NameOf(string? option) => option ?? (Environment.GetEnvironmentVariable("TRACEPROBE_LAB") is { Length: > 0 } name ? name : Lab.Lab.Names switch
    {
        [] => null,
        [var only] => only,
        var several => throw new OperatorException($"There are {several.Length} labs: {string.Join(", ", several)}. Say which with --lab NAME, or set TRACEPROBE_LAB."),
    });

    /// <summary>The option that names a lab.</summary>
    public static Option<string?> NameOption(string name, string description)
    {
        var option = new Option<string?>(name) { Description = description, HelpName = "NAME" };
        option.CompletionSources.Add(_ => Lab.Lab.Names.Select(n => new CompletionItem(n)));
        return option;
    }

    /// <summary>The option that says how a lab's kube-proxy is to translate.</summary>
    public static Option<string> ModeOption(string description)
    {
        var option = new Option<string>("--proxy") { Description = description, HelpName = "MODE" };
        option.AcceptOnlyFromAmong([.. Modes.Select(m => m.Word)]);
        return option;
    }

    /// <summary>The mode of that word, one that <see cref="ModeOption"/> has let through.</summary>
    public static ProxyMode ModeOf(string word) => Modes.First(m => m.Word == word).Mode;

    // The verbs that work in a lab call it --lab; here its name is what is meant, and both are understood.
    private static Option<string?> Which(string description = "The lab; the only one, or $TRACEPROBE_LAB, without it.")
    {
        var option = NameOption("--name", description);
        option.Aliases.Add("--lab");
        return option;
    }

    private static Argument<T> FaultArgument<T>(string description)
    {
        var fault = new Argument<T>("FAULT") { Description = description, HelpName = "FAULT" };
        fault.CompletionSources.Add(_ => Fault.All.Select(f => f.Name).Distinct().Select(n => new CompletionItem(n)));
        fault.Validators.Add(result =>
        {
            if (result.Tokens is [var token, ..] && Fault.All.All(f => f.Name != token.Value && f.Alias != token.Value))
            {
                var near = NearestNames.Of(token.Value, Fault.All.Select(f => f.Name));
                result.AddError($"'{token.Value}' is no fault; {(near.IsEmpty ? $"there are {string.Join(", ", Fault.All.Select(f => f.Name).Distinct())}" : $"did you mean {string.Join(" or ", near)}?")}");
            }
        });
        return fault;
    }

    private static Option<string?> VariantOption(string description)
    {
        var variant = new Option<string?>("--variant") { Description = description, HelpName = "VARIANT" };
        variant.CompletionSources.Add(_ => Fault.All.Select(f => f.Variant).OfType<string>().Distinct().Select(v => new CompletionItem(v)));
        return variant;
    }

    private static Lab.Lab Existing(string? option) => Lab.Lab.Open(NameOf(option) ?? DefaultName);

    private static Verb Up()
    {
        var name = Which($"What to call it: 1 to 20 of a-z, 0-9 and dashes ({DefaultName} without it). Labs of different names live side by side.");
        var proxy = ModeOption("How kube-proxy translates: iptables-nft (or iptables; rules in nf_tables), iptables-legacy (rules in x_tables), nftables, ipvs (where the kernel has it), or userspace (as in 2015).");
        proxy.DefaultValueFactory = _ => "iptables-nft";
        var command = new Verb("up", "Build a lab.")
        {
            Examples =
            [
                ("sudo traceprobe lab up --proxy nftables", "with rules in kube-proxy's own tables"),
                ("sudo traceprobe lab up --name old --proxy userspace", "a second one, as clusters were in 2015"),
                ("sudo traceprobe lab up --agents --otlp http://localhost:4317", "with an agent on each node; 'traceprobe watch' shows what they see"),
            ],
        };
        command.Options.Add(name);
        var agents = new Option<bool>("--agents") { Description = "With an agent on each node, which sees that node's namespaces alone." };
        var otlp = new Option<string?>("--otlp") { Description = "Where these agents send their spans and metrics: http://HOST:4317 (gRPC), or http://HOST:4318 (HTTP).", HelpName = "URL" };
        var alertmanager = new Option<string?>("--alertmanager") { Description = "The Alertmanager that these agents tell.", HelpName = "URL" };
        var oneIn = new Option<int?>("--one-in") { Description = "Of how many healthy connections to a Service these agents follow one in full (20 without it).", HelpName = "N" };
        foreach (var option in new Option[] { proxy, agents, otlp, alertmanager, oneIn })
        {
            command.Options.Add(option);
        }

        command.SetAction(async parsed =>
        {
            using var interruption = new Interruption();
            IReadOnlyList<(Option Option, string? Value)> told = [(otlp, parsed.GetValue(otlp)), (alertmanager, parsed.GetValue(alertmanager)), (oneIn, parsed.GetValue(oneIn)?.ToString(CultureInfo.InvariantCulture))];
            if (!parsed.GetValue(agents) && told.FirstOrDefault(t => t.Value is not null).Option is { } without)
            {
                throw new OperatorException($"{without.Name} is for the agents of a lab; give --agents too.", ExitCode.Usage);
            }

            var options = new LabOptions { HasAgents = parsed.GetValue(agents), AgentArguments = [.. told.Where(t => t.Value is not null).SelectMany(t => (string[])[t.Option.Name, t.Value!])], Name = parsed.GetValue(name) ?? Environment.GetEnvironmentVariable("TRACEPROBE_LAB") ?? DefaultName, Proxy = ModeOf(parsed.GetRequiredValue(proxy)) };
            var lab = await Lab.Lab.UpAsync(options, new Progress(), interruption.Token).ConfigureAwait(false);
            Console.Out.Write(Describe(lab, CommandLine.Style(parsed)));
            return ExitCode.Healthy;
        });
        return command;
    }

    private static Verb Down()
    {
        var name = Which();
        var command = new Verb("down", "Remove a lab, whole or half-made, with everything in it.");
        command.Options.Add(name);
        command.SetAction(parsed =>
        {
            var which = NameOf(parsed.GetValue(name)) ?? DefaultName;
            Console.Out.WriteLine(Lab.Lab.Down(which, new Progress()) ? $"Lab {which} is removed." : $"There is no lab {which}.");
            return ExitCode.Healthy;
        });
        return command;
    }

    private static Verb Break()
    {
        var name = Which();
        var fault = FaultArgument<string>("The failure class to make. One of: " + string.Join(", ", Fault.All.Select(f => f.Name).Distinct()) + ".");
        var variant = VariantOption("Which of several ways to it; 'traceprobe lab faults' lists them.");
        var command = new Verb("break", "Break a lab in one way, until it is mended.")
        {
            Examples = [.. ((string[])["wrong-target-port", "selector-matches-nothing", "no-listener"]).Select(n => Fault.Find(n)).Select(f => ($"sudo traceprobe lab break {f}", f.Description))],
        };
        command.Arguments.Add(fault);
        command.Options.Add(variant);
        command.Options.Add(name);
        command.SetAction(parsed =>
        {
            var broken = Fault.Find(parsed.GetRequiredValue(fault), parsed.GetValue(variant));
            Existing(parsed.GetValue(name)).Break(broken);
            var page = new Page(CommandLine.Style(parsed));
            page.Paragraph($"{broken.Name}{(broken.Variant is { } which ? $" ({which})" : "")}: {broken.Description}", 0);
            page.Paragraph(broken.Symptom, 2, Ink.Dim);
            page.Verbatim($"traceprobe trace {broken.Url} --from {broken.From}{(broken.IsMusl ? " --resolver musl" : "")}", 2, Ink.None);
            Console.Out.Write(page);
            return ExitCode.Healthy;
        });
        return command;
    }

    private static Verb Mend()
    {
        var name = Which();
        var fault = FaultArgument<string?>("The fault to mend; all of them without it.");
        fault.Arity = ArgumentArity.ZeroOrOne;
        var variant = VariantOption("Only this way to it.");
        var command = new Verb("mend", "Mend a lab.");
        command.Arguments.Add(fault);
        command.Options.Add(variant);
        command.Options.Add(name);
        command.SetAction(parsed =>
        {
            var mended = Existing(parsed.GetValue(name)).Mend(parsed.GetValue(fault), parsed.GetValue(variant));
            Console.Out.WriteLine(mended.IsEmpty ? "Nothing was broken." : $"Mended: {string.Join(", ", mended)}.");
            return ExitCode.Healthy;
        });
        return command;
    }

    private static Verb Exec()
    {
        var name = Which();
        var on = new Option<string?>("--on") { Description = "Where to run a command that is not kubectl's: a node or a pod.", HelpName = "PLACE" };
        var what = new Argument<string[]>("COMMAND") { Description = "The command as a verdict prints it, quoted as one word or behind --.", HelpName = "COMMAND", Arity = ArgumentArity.OneOrMore };
        var command = new Verb("exec", "Carry out the command that a verdict prints to mend something: on the lab's objects (kubectl) or in one of its places, which any other may be run in too. Ends with the command's own exit code.")
        {
            Examples =
            [
                ("""sudo traceprobe lab exec 'kubectl set selector service my-nginx -n default "run=my-nginxx"'""", "what kubectl would do to a cluster's objects"),
                ("""sudo traceprobe lab exec --on node-1 "sed -i '1i nameserver 10.96.0.10' /etc/resolv.conf" """.Trim(), "a shell command on a node"),
            ],
        };
        command.Arguments.Add(what);
        command.Options.Add(on);
        command.Options.Add(name);
        command.SetAction(parsed =>
        {
            var words = parsed.GetRequiredValue(what);
            // One word is a line as a shell has it; several were taken apart by a shell already.
            var line = words is [var whole] ? whole : string.Join(' ', words.Select(w => $"'{w.Replace("'", "'\\''", StringComparison.Ordinal)}'"));
            var lab = Existing(parsed.GetValue(name));
            if (!Lab.Lab.IsOfObjects(line))
            {
                return lab.Run(line, parsed.GetValue(on));
            }

            Console.Out.Write(lab.Execute(line, parsed.GetValue(on)));
            return ExitCode.Healthy;
        });
        return command;
    }

    private static Verb List()
    {
        var command = new Verb("list", "List the labs on this machine, and the ways in which they can be broken.");
        command.SetAction(parsed =>
        {
            var page = new Page(CommandLine.Style(parsed));
            foreach (var name in Lab.Lab.Names)
            {
                var state = Lab.Lab.IsUp(name) && Lab.Lab.Open(name) is var lab
                    ? $"{Word(lab.Proxy)}, since {lab.CreatedAt.LocalDateTime.ToString("yyyy-MM-dd HH:mm", CultureInfo.InvariantCulture)}{Broken(lab)}"
                    : $"half-made; remove it with: traceprobe lab down --name {name}";
                page.Row(0, new Cell(name, 20), new Cell(state));
            }

            if (Lab.Lab.Names.IsEmpty)
            {
                Console.Error.WriteLine("There is no lab. Make one with: sudo traceprobe lab up");
            }
            else
            {
                page.Blank();
            }

            page.Paragraph("What 'traceprobe lab break' can do to one:", 0);
            Describe(page);
            Console.Out.Write(page);
            return ExitCode.Healthy;
        });
        return command;
    }

    private static Verb Faults()
    {
        var command = new Verb("faults", "List the ways in which a lab can be broken, each in a sentence.");
        command.SetAction(parsed =>
        {
            var page = new Page(CommandLine.Style(parsed));
            Describe(page);
            Console.Out.Write(page);
            return ExitCode.Healthy;
        });
        return command;
    }

    private static void Describe(Page page)
    {
        foreach (var stage in Fault.All.GroupBy(f => FailureClassInfo.Of(f.Class).Stage!.Value))
        {
            page.Heading(TextReport.Name(stage.Key));
            foreach (var fault in stage)
            {
                page.Verbatim(fault.ToString(), 2, Ink.None);
                page.Paragraph(fault.Description, 6, Ink.Dim);
            }
        }
    }

    private static Verb Status()
    {
        var name = Which();
        var command = new Verb("status", "Show what is in a lab and how it is broken.");
        command.Options.Add(name);
        command.SetAction(parsed =>
        {
            Console.Out.Write(Describe(Existing(parsed.GetValue(name)), CommandLine.Style(parsed)));
            return ExitCode.Healthy;
        });
        return command;
    }

    private static string Describe(Lab.Lab lab, TextStyle style)
    {
        var page = new Page(style);
        page.Paragraph($"Lab {lab.Name}: kube-proxy in {Word(lab.Proxy)} mode{Broken(lab)}", 0, Ink.Bold);
        page.Blank();
        var width = lab.Places.Max(p => p.Name.Length);
        var second = Math.Clamp(lab.Cluster.Services.Select(s => Ports(s).Length).DefaultIfEmpty().Max(), 14, 24);
        foreach (var place in lab.Places.OrderBy(p => p.Kind).ThenBy(p => p.Name, StringComparer.Ordinal))
        {
            var on = place.Kind == PlaceKind.Pod ? $"on {place.Node}" : "";
            page.Row(2, new Cell(place.Name, width), new Cell(on, second, Ink.Dim), new Cell(place.Addresses.IsEmpty ? "" : place.Addresses[0].ToString(), 0, Ink.Dim));
        }

        page.Blank();
        foreach (var service in lab.Cluster.Services)
        {
            var ports = Ports(service);
            page.Row(2, new Cell(service.Ref.ToString(), width), new Cell(ports, second, Ink.Dim), new Cell(service.Spec.ClusterIP ?? "", 0, Ink.Dim));
        }

        page.Blank();
        page.Verbatim($"kubectl --kubeconfig {lab.KubeconfigPath} get services,endpointslices,pods,nodes", 2, Ink.None);
        return page.ToString();
    }

    private static string Ports(Core.Cluster.Service service)
        => string.Join(' ', service.Spec.Ports.Select(p => string.Create(CultureInfo.InvariantCulture, $"{p.Port}/{p.Protocol}")));

    private static string Word(ProxyMode mode) => Modes.First(m => m.Mode == mode).Word;

    private static string Broken(Lab.Lab lab) => lab.ActiveFaults is { IsEmpty: false } faults ? $", broken: {string.Join(", ", faults)}" : "";

    // Told only when it takes long enough for somebody to wonder.
    private sealed class Progress : IProgress<string>
    {
        private readonly long _start = Environment.TickCount64;

        public void Report(string value)
        {
            if (Environment.TickCount64 - _start > 1000)
            {
                Console.Error.WriteLine($"… {value}");
            }
        }
    }
}
