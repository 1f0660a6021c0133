using TraceProbe.Core.Cluster;
using TraceProbe.Core.Journeys;

namespace TraceProbe.Core.Diagnosis;

/// <summary>
/// What can go wrong between a Service's address and a pod's socket, for one connection: that of the request, or that of a lookup,
/// which is a request to the cluster DNS Service. In the packet's order: define, translate, deliver, accept.
/// </summary>
internal static class ServiceChecks
{
    /// <summary>What is wrong, in the packet's order.</summary>
    /// <param name="c">The case.</param>
    /// <param name="service">The Service.</param>
    /// <param name="port">Its port; null when it has none of that number and protocol.</param>
    /// <param name="connection">The connection; null when the client never came so far.</param>
    /// <param name="isDns">Whether the connection is a lookup's.</param>
    public static IEnumerable<Finding> Find(Case c, Service service, ServicePort? port, Connection? connection, bool isDns = false)
    {
        if (!isDns && c.Target is not { Port: > 0 })
        {
            yield break;
        }

        var leg = new ServiceLeg(c, service, port, connection, isDns);
        var portIsWrong = false;
        foreach (var finding in new DefineChecks(c, leg).Find().Concat(new TranslateChecks(c, leg).Find()).Concat(new DeliverChecks(c, leg).Find()))
        {
            portIsWrong |= finding.Class == FailureClass.WrongTargetPort;
            yield return finding;
        }

        foreach (var finding in new AcceptChecks(c, leg).Find(portIsWrong))
        {
            yield return finding;
        }
    }
}
