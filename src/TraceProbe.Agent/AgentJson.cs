using System.Text.Json.Serialization;
using TraceProbe.Agent.Alerts;
using TraceProbe.Agent.Api;

namespace TraceProbe.Agent;

/// <summary>How what an agent tells is written: by webhooks and by the API.</summary>
[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull, UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow)]
[JsonSerializable(typeof(AlertMessage))]
[JsonSerializable(typeof(IReadOnlyList<AlertMessage>))]
[JsonSerializable(typeof(SlackMessage))]
[JsonSerializable(typeof(LiveMessage))]
[JsonSerializable(typeof(IReadOnlyList<FailureMessage>))]
[JsonSerializable(typeof(IReadOnlyList<BaselineMessage>))]
[JsonSerializable(typeof(AgentMessage))]
[JsonSerializable(typeof(SessionRequest))]
[JsonSerializable(typeof(SessionMessage))]
[JsonSerializable(typeof(IReadOnlyList<SessionMessage>))]
[JsonSerializable(typeof(Refusal))]
[JsonSerializable(typeof(IReadOnlyList<string>))]
internal sealed partial class AgentJson : JsonSerializerContext;
