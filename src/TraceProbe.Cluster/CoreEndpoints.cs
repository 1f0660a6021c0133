using System.Collections.Immutable;
using System.Text.Json;
using System.Text.Json.Serialization;
using TraceProbe.Core.Cluster;

namespace TraceProbe.Cluster;

/// <summary>core/v1 Endpoints, the predecessor of EndpointSlices; deprecated from 1.33 on.</summary>
internal sealed record CoreEndpoints
{
    public ObjectMeta Metadata { get; init => field = value ?? new(); } = new();

    public ImmutableArray<Subset> Subsets { get; init => field = value.IsDefault ? [] : value; } = [];

    /// <summary>The same as slices: one per subset and address family, as the mirroring controller makes them.</summary>
    public IEnumerable<EndpointSlice> ToSlices()
    {
        for (var i = 0; i < Subsets.Length; i++)
        {
            var subset = Subsets[i];
            var endpoints = subset.Addresses.Select(a => a.ToEndpoint(true)).Concat(subset.NotReadyAddresses.Select(a => a.ToEndpoint(false)));
            foreach (var family in endpoints.GroupBy(e => e.Addresses[0].Contains(':', StringComparison.Ordinal) ? "IPv6" : "IPv4"))
            {
                yield return new EndpointSlice
                {
                    Metadata = Metadata with
                    {
                        Name = Subsets.Length == 1 ? Metadata.Name : $"{Metadata.Name}-{i}",
                        Labels = Metadata.Labels.SetItem(EndpointSlice.ServiceNameLabel, Metadata.Name),
                    },
                    AddressType = family.Key,
                    Endpoints = [.. family],
                    Ports = subset.Ports,
                };
            }
        }
    }

    internal sealed record Subset
    {
        public ImmutableArray<Address> Addresses { get; init => field = value.IsDefault ? [] : value; } = [];

        public ImmutableArray<Address> NotReadyAddresses { get; init => field = value.IsDefault ? [] : value; } = [];

        public ImmutableArray<EndpointPort> Ports { get; init => field = value.IsDefault ? [] : value; } = [];
    }

    internal sealed record Address
    {
        public string Ip { get; init => field = value ?? ""; } = "";

        public string? NodeName { get; init; }

        public ObjectReference? TargetRef { get; init; }

        public Endpoint ToEndpoint(bool ready) => new()
        {
            Addresses = [Ip],
            Conditions = new EndpointConditions { Ready = ready },
            NodeName = NodeName,
            TargetRef = TargetRef,
        };
    }
}

[JsonSourceGenerationOptions(JsonSerializerDefaults.Web, NumberHandling = JsonNumberHandling.Strict)]
[JsonSerializable(typeof(CoreEndpoints))]
internal sealed partial class CoreEndpointsJson : JsonSerializerContext;
