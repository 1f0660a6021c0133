using System.Collections.Immutable;
using System.Globalization;
using System.Runtime.InteropServices;
using TraceProbe.Core.Cluster;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Rules;

namespace TraceProbe.Core.Checks;

public sealed partial class RuleCheck
{
    /// <summary>What was found so far: what is about one Service port by that port, what several owe to one rule by that rule.</summary>
    private sealed class FindingList(RuleCheck check)
    {
        private const int MostRules = 6;
        private const int MostObjects = 8;

        private readonly Dictionary<(FailureClass Class, bool IsRemark, string Key), Group> _groups = [];
        private readonly List<Other> _others = [];
        private readonly Dictionary<string, (CheckStatus Status, List<FailureClass> Classes)> _byPort = new(StringComparer.Ordinal);

        public void Add(Subject subject, TrafficCase? one, Deviation deviation)
        {
            ref var group = ref CollectionsMarshal.GetValueRefOrAddDefault(_groups, (deviation.Class, deviation.IsRemark, deviation.Shared ?? subject.ToString()), out _);
            group ??= new Group(deviation, Effects: [], Causes: [], Subjects: [], Cases: [], Rules: []);
            group.Add(subject, one, deviation);
            Count(subject, deviation.Class, StatusOf(deviation.Class, deviation.IsRemark));
        }

        /// <summary>Adds what is worth knowing although rules and objects agree.</summary>
        public void Remark(Subject subject, Finding finding, RuleRef? rule = null)
        {
            // The same is often so for another port of the Service, and for the other address family.
            if (_others.Find(o => o.Finding.Class == finding.Class && o.Finding.Sentence == finding.Sentence) is not { } other)
            {
                _others.Add(other = new Other([], finding, rule is null ? [] : [rule], CheckStatus.Agrees));
            }

            if (!other.Subjects.Contains(subject))
            {
                other.Subjects.Add(subject);
            }

            Count(subject, finding.Class, CheckStatus.Agrees);
        }

        /// <summary>Adds what is about no Service port that there is.</summary>
        public void Add(Finding finding, params IEnumerable<RuleRef> rules) => _others.Add(new Other([], finding, [.. rules], CheckStatus.Differs));

        /// <summary>Whether something of that class was found.</summary>
        public bool Has(FailureClass @class) => _groups.Keys.Any(k => k.Class == @class);

        public ImmutableArray<CheckedPort> WithClasses(IEnumerable<CheckedPort> ports)
            => [.. ports.Select(p => _byPort.TryGetValue($"{p.Service.Namespace}/{p.Service.Name} {p.Port}", out var found) ? p with { Status = found.Status, Classes = [.. found.Classes] } : p)];

        public ImmutableArray<CheckFinding> ToFindings()
            => [.. _groups.Values.Select(Told).Concat(_others.Select(Told)).OrderBy(f => Rank(f.Status)).ThenBy(f => f.Class).ThenBy(f => f.Ports.IsEmpty ? "" : f.Ports[0], StringComparer.Ordinal)
                .ThenBy(f => f.Sentence, StringComparer.Ordinal)];

        private void Count(Subject subject, FailureClass @class, CheckStatus status)
        {
            ref var port = ref CollectionsMarshal.GetValueRefOrAddDefault(_byPort, subject.ToString(), out var known);
            port = known ? (Rank(status) < Rank(port.Status) ? status : port.Status, port.Classes) : (status, []);
            if (!port.Classes.Contains(@class))
            {
                port.Classes.Add(@class);
            }
        }

        private static CheckStatus StatusOf(FailureClass @class, bool isRemark)
            => isRemark ? CheckStatus.Agrees : @class == FailureClass.Undetermined ? CheckStatus.Undetermined : CheckStatus.Differs;

        private static int Rank(CheckStatus status) => status switch { CheckStatus.Differs => 0, CheckStatus.Undetermined => 1, _ => 2 };

        private CheckFinding Told(Other other) => new()
        {
            Class = other.Finding.Class,
            Status = other.Status,
            Sentence = char.ToUpperInvariant(other.Finding.Sentence[0]) + other.Finding.Sentence[1..],
            Objects = other.Finding.Objects,
            Ports = [.. other.Subjects.Select(s => s.ToString())],
            Rules = [.. other.Rules],
            Evidence = other.Finding.Evidence,
            Mend = other.Finding.Mend ?? (other.Status == CheckStatus.Differs ? Mends.RestartKubeProxy(check._vantage.Node) : null),
        };

        private CheckFinding Told(Group group)
        {
            var (deviation, effects, causes, subjects, cases, rules) = group;
            var who = Who(cases, withAddress: subjects.Count == 1);
            var many = subjects.Count == 1 ? "" : string.Create(CultureInfo.InvariantCulture,
                $" It concerns {subjects.Count} Service ports: {string.Join(", ", subjects.Take(3))}{(subjects.Count > 3 ? $" and {subjects.Count - 3} more" : "")}.");
            var what = causes.Count <= 3 ? string.Join("; ", causes) : string.Create(CultureInfo.InvariantCulture, $"{string.Join("; ", causes.Take(3))}; and {causes.Count - 3} more of the kind");
            var status = StatusOf(deviation.Class, deviation.IsRemark);
            return new CheckFinding
            {
                Class = deviation.Class,
                Status = status,
                Sentence = $"On {check._vantage.Words}, {what}: packets {(who.Length == 0 ? "" : who + " ")}{string.Join(" or ", effects.Take(2))}.{many}",
                Objects = [.. subjects.Select(s => s.Service.Ref).Distinct().Take(MostObjects), .. check._vantage.Node is { } node ? [new ObjectRef("node", null, node)] : Array.Empty<ObjectRef>()],
                Ports = [.. subjects.Select(s => s.ToString())],
                Rules = [.. rules.Take(MostRules)],
                Evidence = subjects is [var only] && cases.FirstOrDefault(c => !c.Backends.IsEmpty) is { } one
                    ? [new Evidence(EvidenceSource.Desired, string.Create(CultureInfo.InvariantCulture, $"EndpointSlices of {only.Service.Ref}: {string.Join(", ", one.Backends.Take(4).Select(b => b.Address))}{(one.Backends.Length > 4 ? $" and {one.Backends.Length - 4} more" : "")} for port {only.Port.Port}"))]
                    : [],
                Mend = status == CheckStatus.Agrees ? null : deviation.Mend ?? (deviation.Class == FailureClass.Undetermined ? null : Mends.RestartKubeProxy(check._vantage.Node)),
            };
        }

        private static string Who(List<TrafficCase> cases, bool withAddress)
        {
            var origins = cases.Where(c => c.Hairpin is null).Select(c => c.From).Distinct().Order().Select(o => o switch
            {
                Origin.Pod => "from pods",
                Origin.Node => "from the node itself",
                _ => "from outside",
            }).ToList();
            if (origins.Count == 0)
            {
                origins = cases.Count == 0 ? [] : ["from an endpoint to its own Service"];
            }

            var to = cases.Select(c => c.To).Distinct().ToList();
            return (origins.Count < 2 ? string.Concat(origins) : $"{string.Join(", ", origins.SkipLast(1))} and {origins[^1]}")
                + (!withAddress || to.Count == 0 ? "" : $" to {string.Join(", ", to.Take(3))}{(to.Count > 3 ? string.Create(CultureInfo.InvariantCulture, $" and {to.Count - 3} more addresses") : "")}");
        }

        private sealed record Other(List<Subject> Subjects, Finding Finding, List<RuleRef> Rules, CheckStatus Status);

        private sealed record Group(Deviation First, List<string> Effects, List<string> Causes, List<Subject> Subjects, List<TrafficCase> Cases, List<RuleRef> Rules)
        {
            // Of a fault that all Services share, the first few tell the kinds of packets.
            private const int MostCases = 64;

            public void Add(Subject subject, TrafficCase? one, Deviation deviation)
            {
                if (Subjects.Count == 0 || Subjects[^1] != subject)
                {
                    if (!Subjects.Contains(subject))
                    {
                        Subjects.Add(subject);
                    }
                }

                if (one is not null && Cases.Count < MostCases)
                {
                    Cases.Add(one);
                }

                if (Causes.Count == 0 || deviation.Shared is null && !Causes.Contains(deviation.Cause))
                {
                    Causes.Add(deviation.Cause);
                }

                if (Effects.Count < 2 && !Effects.Contains(deviation.Effect))
                {
                    Effects.Add(deviation.Effect);
                }

                foreach (var rule in deviation.Rules)
                {
                    if (Rules.Count < MostRules && !Rules.Contains(rule))
                    {
                        Rules.Add(rule);
                    }
                }
            }
        }
    }
}
