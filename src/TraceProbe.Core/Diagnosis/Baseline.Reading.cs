using System.Collections.Immutable;
using System.Text.Json;
using TraceProbe.Core.Requests;
using static TraceProbe.Core.Cluster.JsonMembers;

namespace TraceProbe.Core.Diagnosis;

public sealed partial record Baseline
{
    /// <summary>The newest version of the format that is known here.</summary>
    public const int NewestVersion = 1;

    /// <summary>Reads a baseline, as <see cref="ReportJson"/> writes it. Every trace reads those there are, so it is done without the serializer.</summary>
    /// <param name="text">The JSON text, UTF-8.</param>
    /// <exception cref="JsonException">It is no baseline, or something in it is missing.</exception>
    public static Baseline Read(ReadOnlySpan<byte> text)
    {
        var json = new Utf8JsonReader(text);
        Advance(ref json);
        var version = 1;
        string? name = null, cluster = null, client = null, service = null;
        RequestTarget? target = null;
        DateTimeOffset? recorded = null;
        ImmutableArray<StageRecord>.Builder? stages = null;
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("version"u8))
            {
                version = Number(ref json);
            }
            else if (member.SequenceEqual("name"u8))
            {
                name = OwnText(ref json);
            }
            else if (member.SequenceEqual("cluster"u8))
            {
                cluster = OwnText(ref json);
            }
            else if (member.SequenceEqual("client"u8))
            {
                client = OwnText(ref json);
            }
            else if (member.SequenceEqual("service"u8))
            {
                service = OwnText(ref json);
            }
            else if (member.SequenceEqual("target"u8))
            {
                target = ReadTarget(ref json);
            }
            else if (member.SequenceEqual("recordedAt"u8))
            {
                recorded = Time(ref json);
            }
            else if (member.SequenceEqual("stages"u8))
            {
                stages = ImmutableArray.CreateBuilder<StageRecord>();
                OpenList(ref json);
                while (NextElement(ref json))
                {
                    stages.Add(ReadStage(ref json));
                }
            }
            else
            {
                json.Skip();
            }
        }

        return json.Read() ? throw new JsonException("there is more behind it.") : new Baseline
        {
            Version = version,
            Name = Needed(name, "name"),
            Cluster = cluster,
            Client = Needed(client, "client"),
            Service = Needed(service, "service"),
            Target = Needed(target, "target"),
            RecordedAt = recorded ?? throw Missing("recordedAt"),
            Stages = Needed(stages, "stages").ToImmutable(),
        };
    }

    private static RequestTarget ReadTarget(ref Utf8JsonReader json)
    {
        string? scheme = null, host = null, path = null;
        int? port = null;
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("scheme"u8))
            {
                scheme = OwnText(ref json);
            }
            else if (member.SequenceEqual("host"u8))
            {
                host = OwnText(ref json);
            }
            else if (member.SequenceEqual("port"u8))
            {
                port = Number(ref json);
            }
            else if (member.SequenceEqual("path"u8))
            {
                path = OwnText(ref json);
            }
            else
            {
                json.Skip();
            }
        }

        return new RequestTarget(
            Needed(scheme, "scheme") switch
            {
                nameof(RequestScheme.Tcp) => RequestScheme.Tcp,
                nameof(RequestScheme.Udp) => RequestScheme.Udp,
                nameof(RequestScheme.Http) => RequestScheme.Http,
                nameof(RequestScheme.Https) => RequestScheme.Https,
                _ => throw new JsonException("Tcp, Udp, Http or Https was expected."),
            },
            Needed(host, "host"),
            port is >= 0 and <= ushort.MaxValue ? (ushort)port : throw Missing("port"),
            Needed(path, "path"));
    }

    private static StageRecord ReadStage(ref Utf8JsonReader json)
    {
        string? stage = null, status = null;
        ImmutableArray<StageFact>.Builder? facts = null;
        long? duration = null;
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("stage"u8))
            {
                stage = OwnText(ref json);
            }
            else if (member.SequenceEqual("status"u8))
            {
                status = OwnText(ref json);
            }
            else if (member.SequenceEqual("facts"u8))
            {
                facts = ImmutableArray.CreateBuilder<StageFact>();
                OpenList(ref json);
                while (NextElement(ref json))
                {
                    facts.Add(ReadFact(ref json));
                }
            }
            else if (member.SequenceEqual("durationNanoseconds"u8))
            {
                duration = json.TokenType == JsonTokenType.Number && json.TryGetInt64(out var nanoseconds) ? nanoseconds : throw new JsonException("a number of nanoseconds was expected.");
            }
            else
            {
                json.Skip();
            }
        }

        return new StageRecord(
            Needed(stage, "stage") switch
            {
                "resolve" => Stage.Resolve,
                "define" => Stage.Define,
                "translate" => Stage.Translate,
                "deliver" => Stage.Deliver,
                "accept" => Stage.Accept,
                "exchange" => Stage.Exchange,
                _ => throw new JsonException($"there is no stage '{stage}'."),
            },
            Needed(status, "status") switch
            {
                "not-reached" => StageStatus.NotReached,
                "not-needed" => StageStatus.NotNeeded,
                "not-seen" => StageStatus.NotSeen,
                "passed" => StageStatus.Passed,
                "failed" => StageStatus.Failed,
                _ => throw new JsonException($"a stage cannot be '{status}'."),
            },
            Needed(facts, "facts").ToImmutable(),
            duration);
    }

    private static StageFact ReadFact(ref Utf8JsonReader json)
    {
        string? name = null, value = null;
        Open(ref json);
        while (Next(ref json, out var member))
        {
            if (member.SequenceEqual("name"u8))
            {
                name = OwnText(ref json);
            }
            else if (member.SequenceEqual("value"u8))
            {
                value = OwnText(ref json);
            }
            else
            {
                json.Skip();
            }
        }

        return new StageFact(Needed(name, "name"), Needed(value, "value"));
    }

    private static T Needed<T>(T? value, string name)
        where T : class => value ?? throw Missing(name);

    private static JsonException Missing(string name) => new($"'{name}' is missing in it, or is none.");
}
