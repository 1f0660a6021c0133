using System.Collections.Immutable;
using System.Globalization;
using System.Text;
using System.Text.Json;
using TraceProbe.Core.Net;

namespace TraceProbe.Lab;

/// <summary>
/// Brings a node's IPVS, its ipsets, the addresses of <c>kube-ipvs0</c> and its iptables rules to what a writer wants, as kube-proxy
/// does: what is there already stays as it is, with its connections and counters; others' sets and rules are left alone.
/// </summary>
/// <param name="netns">The node's namespace.</param>
/// <param name="ipv6">Which family.</param>
internal sealed class Ipvs(string netns, bool ipv6)
{
    /// <summary>The interface that Services' addresses are bound to. It carries nothing, and is never up.</summary>
    internal const string Device = "kube-ipvs0";

    /// <summary>The tools this mode needs.</summary>
    internal static IEnumerable<string> Tools => Iptables.Tools(ProxyMode.Ipvs).Concat(["ipset", "ipvsadm"]);

    private Iptables Iptables => new(netns, ProxyMode.Ipvs, ipv6);

    /// <summary>
    /// Sets what kube-proxy sets on a node at its start. The mode of connection reuse is for kernels before 5.9 only.
    /// </summary>
    internal static void SetSysctls()
    {
        // Masquerade, and rules that ask for a connection's state, need its conntrack entry.
        LabNetwork.Sysctl("net/ipv4/vs/conntrack", "1");
        LabNetwork.Sysctl("net/ipv4/vs/expire_nodest_conn", "1");
        LabNetwork.Sysctl("net/ipv4/vs/expire_quiescent_template", "1");
    }

    internal void Apply(IpvsRules wanted)
    {
        Command.Run(netns, "ipset", ["restore"], ComposeSets(wanted, Command.Run(netns, "ipset", ["save"])));
        Command.Run(netns, "ipvsadm", ["-R"], ComposeServers(wanted, ReadServers(Command.Run(netns, "ipvsadm", ["-L", "-n"])).Where(s => s.Where.Address.IsIPv4 != ipv6)));
        var bound = ReadAddresses();
        Batch(wanted.Addresses.Except(bound).Select(a => $"addr add {a}/{a.Width} dev {Device}"));
        Iptables.Apply(wanted.Tables);
        Batch(bound.Except(wanted.Addresses).Select(a => $"addr del {a}/{a.Width} dev {Device}"));
    }

    /// <summary>Takes all virtual servers and all rules away (<c>ipvsadm -C</c>, <c>iptables -F</c>); sets and addresses stay.</summary>
    internal void Flush()
    {
        Command.Run(netns, "ipvsadm", ["-C"]);
        Iptables.Flush();
    }

    /// <summary>The text for <c>ipset restore</c> that leads from what is saved to what is wanted.</summary>
    internal static string ComposeSets(IpvsRules wanted, string saved)
    {
        var present = saved.Split('\n').Select(l => l.Split(' ')).Where(w => w is ["add", ..]).ToLookup(w => w[1], w => w[2]);
        var text = new StringBuilder();
        foreach (var set in wanted.Sets)
        {
            text.Append(set.Creation).Append('\n');
            foreach (var entry in present[set.Name].Where(e => !set.Entries.Contains(e)))
            {
                text.Append("del ").Append(set.Name).Append(' ').Append(entry).Append('\n');
            }

            foreach (var entry in set.Entries.Except(present[set.Name]))
            {
                text.Append("add ").Append(set.Name).Append(' ').Append(entry).Append('\n');
            }
        }

        return text.ToString();
    }

    /// <summary>The text for <c>ipvsadm -R</c> that leads from what is there to what is wanted.</summary>
    internal static string ComposeServers(IpvsRules wanted, IEnumerable<VirtualServer> present)
    {
        var text = new StringBuilder();
        void Say(FormattableString line) => text.Append(line.ToString(CultureInfo.InvariantCulture)).Append('\n');
        var there = present.ToDictionary(s => s.Key);
        foreach (var server in wanted.Servers)
        {
            var found = there.GetValueOrDefault(server.Key);
            if (found is null)
            {
                Say($"-A {server.Definition}");
            }
            else if (found.Definition != server.Definition)
            {
                Say($"-E {server.Definition}");
            }

            var real = (found?.Servers ?? []).ToDictionary(r => r.Where);
            foreach (var backend in server.Servers)
            {
                if (!real.Remove(backend.Where, out var same))
                {
                    Say($"-a {server.Key} -r {backend.Where} -m -w {backend.Weight}");
                }
                else if (same.Weight != backend.Weight)
                {
                    Say($"-e {server.Key} -r {backend.Where} -m -w {backend.Weight}");
                }
            }

            foreach (var (where, gone) in real)
            {
                // One that has connections keeps them until they have ended, and gets no more (graceful_termination.go).
                if (server.Protocol == "udp" || gone.Connections == 0)
                {
                    Say($"-d {server.Key} -r {where}");
                }
                else if (gone.Weight != 0)
                {
                    Say($"-e {server.Key} -r {where} -m -w 0");
                }
            }

            there.Remove(server.Key);
        }

        foreach (var server in there.Values)
        {
            Say($"-D {server.Key}");
        }

        return text.ToString();
    }

    /// <summary>Reads what <c>ipvsadm -L -n</c> prints: the virtual servers of addresses, not those of marks.</summary>
    internal static ImmutableArray<VirtualServer> ReadServers(string listed)
    {
        // TCP  10.96.0.1:443 rr persistent 10800
        //   -> 172.30.0.1:6443              Masq    1      0          0
        var servers = new List<VirtualServer>();
        VirtualServer? current = null;
        foreach (var line in listed.Split('\n'))
        {
            switch (line.Split(' ', StringSplitOptions.RemoveEmptyEntries))
            {
                case [("TCP" or "UDP" or "SCTP") and var protocol, var where, _, .. var flags]:
                    var persistent = Array.IndexOf(flags, "persistent");
                    current = new VirtualServer(protocol.ToLowerInvariant(), AddressPort.Parse(where), persistent < 0 ? null : Number(flags[persistent + 1]), []);
                    servers.Add(current);
                    break;
                case ["FWM", ..]:
                    current = null;
                    break;
                case ["->", var where, _, var weight, var active, var inactive] when current is not null:
                    current = current with { Servers = current.Servers.Add(new RealServer(AddressPort.Parse(where), Number(weight), Number(active) + Number(inactive))) };
                    servers[^1] = current;
                    break;
            }
        }

        return [.. servers];

        static int Number(string text) => int.Parse(text, NumberStyles.None, CultureInfo.InvariantCulture);
    }

    // The addresses of our family on the interface, which is made when it is not there.
    private HashSet<IpAddress> ReadAddresses()
    {
        if (Command.Try(netns, "ip", ["link", "show", "dev", Device]).ExitCode != 0)
        {
            Command.Run(netns, "ip", ["link", "add", "name", Device, "type", "dummy"]);
        }

        using var listed = JsonDocument.Parse(Command.Run(netns, "ip", ["-json", "addr", "show", "dev", Device]));
        return [.. listed.RootElement.EnumerateArray().SelectMany(d => d.GetProperty("addr_info").EnumerateArray())
            .Select(a => IpAddress.Parse(a.GetProperty("local").GetString()!)).Where(a => a.IsIPv4 != ipv6)];
    }

    private void Batch(IEnumerable<string> lines)
    {
        var text = string.Join('\n', lines);
        if (text.Length > 0)
        {
            Command.Run(netns, "ip", ["-batch", "-"], text + "\n");
        }
    }
}
