using System.Collections.Immutable;
using System.Globalization;
using TraceProbe.Core.Net;

namespace TraceProbe.Lab;

/// <summary>A virtual server of IPVS.</summary>
/// <param name="Protocol">In lower case.</param>
/// <param name="Where">Its address and port.</param>
/// <param name="AffinitySeconds">How long a client keeps its real server; null when it does not.</param>
/// <param name="Servers">The real servers behind it.</param>
internal sealed record VirtualServer(string Protocol, AddressPort Where, int? AffinitySeconds, ImmutableArray<RealServer> Servers)
{
    /// <summary>What tells it from all others, as ipvsadm takes it: <c>-t 10.96.0.1:443</c>.</summary>
    internal string Key => $"{Protocol switch { "udp" => "-u", "sctp" => "--sctp-service", _ => "-t" }} {Where}";

    /// <summary>What it is made or changed with.</summary>
    internal string Definition => AffinitySeconds is { } seconds ? string.Create(CultureInfo.InvariantCulture, $"{Key} -s rr -p {seconds}") : $"{Key} -s rr";
}

/// <summary>A real server behind a virtual one.</summary>
/// <param name="Where">Its address and port.</param>
/// <param name="Weight">1, or 0 while it only ends the connections it has.</param>
/// <param name="Connections">How many connections it has, ended ones that are still remembered too.</param>
internal readonly record struct RealServer(AddressPort Where, int Weight = 1, int Connections = 0);
