using System.Net;
using System.Net.Sockets;

namespace TraceProbe.Tests;

/// <summary>Ports of this machine's loopback.</summary>
internal static class Loopback
{
    /// <summary>A port that nobody has just now.</summary>
    public static int FreePort()
    {
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        socket.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        return ((IPEndPoint)socket.LocalEndPoint!).Port;
    }
}
