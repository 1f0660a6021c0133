using System.Text.Json.Serialization;

namespace TraceProbe.Core.Diagnosis;

/// <summary>The stages of a request to a Service, in the packet's order.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<Stage>))]
public enum Stage
{
    /// <summary>The name becomes an address.</summary>
    [JsonStringEnumMemberName("resolve")]
    Resolve,

    /// <summary>The Service says which port on which pods stands behind the address.</summary>
    [JsonStringEnumMemberName("define")]
    Define,

    /// <summary>The node's rules replace the Service's address by a pod's.</summary>
    [JsonStringEnumMemberName("translate")]
    Translate,

    /// <summary>The packet travels to the pod, and the answer back.</summary>
    [JsonStringEnumMemberName("deliver")]
    Deliver,

    /// <summary>A socket in the pod takes the connection.</summary>
    [JsonStringEnumMemberName("accept")]
    Accept,

    /// <summary>Request and answer are exchanged.</summary>
    [JsonStringEnumMemberName("exchange")]
    Exchange,
}
