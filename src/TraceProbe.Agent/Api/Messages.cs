using System.Text.Json;
using TraceProbe.Agent.Alerts;

namespace TraceProbe.Agent.Api;

/// <summary>A connection that was diagnosed.</summary>
public sealed record FailureMessage
{
    /// <summary>The version of this form. Members are added, never renamed.</summary>
    public int Version { get; init; } = 1;

    /// <summary>When it began.</summary>
    public required DateTimeOffset At { get; init; }

    /// <summary>The node whose agent saw it.</summary>
    public required string Node { get; init; }

    /// <summary>The failure class, as <c>traceprobe classes</c> lists it.</summary>
    public required string Class { get; init; }

    /// <summary>The Service and port, <c>NAMESPACE/NAME:PORT</c>; or the name or address that was asked for when it is none's.</summary>
    public required string Service { get; init; }

    /// <summary>The client's workload, or its node.</summary>
    public required string Client { get; init; }

    /// <summary>The cause in a sentence.</summary>
    public required string Sentence { get; init; }

    /// <summary>The command that mends it; null when there is none.</summary>
    public string? MendCommand { get; init; }

    /// <summary>The trace it was exported as; null when it was not.</summary>
    public string? TraceId { get; init; }
}

/// <summary>What is told live: one of its members is not null.</summary>
public sealed record LiveMessage
{
    /// <summary>A connection that was diagnosed.</summary>
    public FailureMessage? Failure { get; init; }

    /// <summary>A change of an alert.</summary>
    public AlertMessage? Alert { get; init; }

    /// <summary>Healthy connections that go another way than they used to.</summary>
    public ChangeMessage? Change { get; init; }

    /// <summary>How many messages this listener was too slow for.</summary>
    public long? Missed { get; init; }

    /// <summary>Told every few seconds, so that both sides know that the other is there.</summary>
    public DateTimeOffset? Now { get; init; }

    /// <summary>As a line of JSON.</summary>
    public string ToJson() => JsonSerializer.Serialize(this, AgentJson.Default.LiveMessage);
}

/// <summary>Healthy connections of a client go another way than they used to: another resolver answers, another address, somebody else accepts.</summary>
public sealed record ChangeMessage
{
    /// <summary>When that was found.</summary>
    public required DateTimeOffset At { get; init; }

    /// <summary>The node whose agent found it.</summary>
    public required string Node { get; init; }

    /// <summary>The client's workload or node.</summary>
    public required string Client { get; init; }

    /// <summary>The Service and port.</summary>
    public required string Service { get; init; }

    /// <summary>The stage: <c>resolve</c>, <c>define</c>, <c>translate</c>, <c>deliver</c>, <c>accept</c> or <c>exchange</c>.</summary>
    public required string Stage { get; init; }

    /// <summary>What is other than before, and from how many journeys that is known.</summary>
    public required string Sentence { get; init; }
}

/// <summary>What healthy looks like for one client, Service and port, and address family.</summary>
public sealed record BaselineMessage
{
    /// <summary>The client's workload or node.</summary>
    public required string Client { get; init; }

    /// <summary>The Service and port.</summary>
    public required string Service { get; init; }

    /// <summary>4 or 6.</summary>
    public required int Family { get; init; }

    /// <summary>From how many connections it was learned.</summary>
    public required long Connections { get; init; }

    /// <summary>When the last of them began.</summary>
    public required DateTimeOffset LastSeen { get; init; }

    /// <summary>The nameservers that were asked, the latest last.</summary>
    public required IReadOnlyList<string> Resolvers { get; init; }

    /// <summary>The names that were asked for, in the order of the search path.</summary>
    public required IReadOnlyList<string> Names { get; init; }

    /// <summary>The backends that answered, the latest last.</summary>
    public required IReadOnlyList<string> Backends { get; init; }

    /// <summary>The lookup's 50th and 99th percentiles, in milliseconds; null when none was seen.</summary>
    public Percentiles? LookupMilliseconds { get; init; }

    /// <summary>The handshake's.</summary>
    public Percentiles? ConnectMilliseconds { get; init; }

    /// <summary>Those from the request's first byte to the answer's.</summary>
    public Percentiles? ReplyMilliseconds { get; init; }
}

/// <summary>Two percentiles.</summary>
public sealed record Percentiles(double P50, double P99);

/// <summary>How an agent is.</summary>
public sealed record AgentMessage
{
    /// <summary>The version of this form. Members are added, never renamed.</summary>
    public int Version { get; init; } = 1;

    /// <summary>TraceProbe's version.</summary>
    public required string Program { get; init; }

    /// <summary>The node it watches.</summary>
    public required string Node { get; init; }

    /// <summary>Since when.</summary>
    public required DateTimeOffset Since { get; init; }

    /// <summary>The namespaces it knows by name: <c>pod/NAMESPACE/NAME</c> and <c>node/NAME</c>.</summary>
    public required IReadOnlyList<string> Places { get; init; }

    /// <summary>Why it goes on with the cluster's objects as they were known last; null when they are as of now.</summary>
    public string? Away { get; init; }

    /// <summary>Attempts under way.</summary>
    public required int Open { get; init; }

    /// <summary>Events that the kernel could not hand over.</summary>
    public required long Lost { get; init; }

    /// <summary>Attempts there was no room for.</summary>
    public required long Shed { get; init; }

    /// <summary>Attempts that there was no time to judge.</summary>
    public required long NotJudged { get; init; }
}

/// <summary>What a session is to do: make a request and follow it, or follow those that others make. What is not said has the value given here (which generated readers know of what can be set).</summary>
public sealed record SessionRequest
{
    /// <summary>What to ask for, as 'traceprobe trace' takes it; null to follow others.</summary>
    public string? Url { get; set; }

    /// <summary>From where: <c>pod/NAMESPACE/NAME</c> or <c>node/NAME</c>; needed with <see cref="Url"/>.</summary>
    public string? From { get; set; }

    /// <summary>Without a URL: the addresses and ports that are followed, each <c>ADDRESS:PORT</c> or an address alone. At most 64.</summary>
    public IReadOnlyList<string>? To { get; set; }

    /// <summary>The most seconds that it may take, 1 to 60.</summary>
    public double Seconds { get; set; } = 10;

    /// <summary><c>glibc</c> or <c>musl</c>.</summary>
    public string Resolver { get; set; } = "glibc";
}

/// <summary>A session.</summary>
public sealed record SessionMessage
{
    /// <summary>The version of this form. Members are added, never renamed.</summary>
    public int Version { get; init; } = 1;

    /// <summary>Its name, which nobody can guess.</summary>
    public required string Id { get; init; }

    /// <summary><c>starting</c>, <c>following</c> (what it was asked for is seen from now on), <c>done</c>, <c>failed</c> or <c>cancelled</c>.</summary>
    public required string State { get; init; }

    /// <summary>The node.</summary>
    public required string Node { get; init; }

    /// <summary>Why it failed; null when it did not.</summary>
    public string? Error { get; init; }

    /// <summary>The verdict's class; null before there is one, and of sessions that follow others.</summary>
    public string? Class { get; init; }

    /// <summary>The verdict's sentence.</summary>
    public string? Sentence { get; init; }
}

/// <summary>Why something is refused.</summary>
public sealed record Refusal(int Status, string Error);
