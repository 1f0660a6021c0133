using System.Buffers.Text;
using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;
using TraceProbe.Core.Net;

namespace TraceProbe.Cluster;

/// <summary>An answer to a question over HTTP.</summary>
/// <param name="Status">Its status, such as 200.</param>
/// <param name="Body">What it holds, as text.</param>
internal sealed record LocalAnswer(int Status, string Body);

/// <summary>
/// Asks a server of the calling thread's network namespace over plain HTTP, by blocking calls on the calling thread: the framework's clients
/// work on threads of their own, which would be in another namespace, or would stay behind in this one.
/// </summary>
internal static unsafe class LocalHttp
{
    private const int SOCK_STREAM = 1;
    private const int SOCK_NONBLOCK = 0x800;
    private const int SOCK_CLOEXEC = 0x80000;
    private const int MSG_NOSIGNAL = 0x4000;
    private const int SOL_SOCKET = 1;
    private const int SO_ERROR = 4;
    private const int MostOfAHead = 16 * 1024;

    /// <summary>Asks.</summary>
    /// <param name="at">Where.</param>
    /// <param name="path">What, such as <c>/metrics</c>.</param>
    /// <param name="limit">How long all of it may take.</param>
    /// <param name="most">How many bytes the answer may have.</param>
    /// <exception cref="IOException">There was no answer, or none that is HTTP; the message says why.</exception>
    public static LocalAnswer Get(AddressPort at, string path, TimeSpan limit, int most)
    {
        var watch = Stopwatch.StartNew();
        var address = SocketAddress(at);
        using var socket = Libc.socket(BitConverter.ToUInt16(address), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (socket.IsInvalid)
        {
            throw Failed("no socket");
        }

        fixed (byte* bytes = address)
        {
            if (Libc.connect(socket, bytes, (uint)address.Length) != 0 && Marshal.GetLastPInvokeError() != Libc.EINPROGRESS)
            {
                throw Failed("no connection");
            }
        }

        Wait(socket, Libc.POLLOUT, watch, limit);
        var error = 0;
        var size = (uint)sizeof(int);
        if (Libc.getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, ref size) != 0 || error != 0)
        {
            throw new IOException(error == 0 ? "no connection" : Marshal.GetPInvokeErrorMessage(error).ToLowerInvariant());
        }

        // HTTP/1.0: the answer comes whole, and ends with the connection.
        Send(socket, Encoding.ASCII.GetBytes($"GET {path} HTTP/1.0\r\nHost: {at}\r\nUser-Agent: traceprobe\r\nAccept: text/plain, */*\r\n\r\n"), watch, limit);
        return Parse(Receive(socket, watch, limit, most));
    }

    private static void Send(SafeFileHandle socket, byte[] bytes, Stopwatch watch, TimeSpan limit)
    {
        fixed (byte* start = bytes)
        {
            for (var sent = 0; sent < bytes.Length;)
            {
                Wait(socket, Libc.POLLOUT, watch, limit);
                var count = Libc.send(socket, start + sent, (nuint)(bytes.Length - sent), MSG_NOSIGNAL);
                if (count < 0 && Marshal.GetLastPInvokeError() is not (Libc.EAGAIN or Libc.EINTR))
                {
                    throw Failed("the connection broke");
                }

                sent += (int)Math.Max(0, count);
            }
        }
    }

    private static ReadOnlySpan<byte> Receive(SafeFileHandle socket, Stopwatch watch, TimeSpan limit, int most)
    {
        var buffer = new byte[16 * 1024];
        var length = 0;
        while (true)
        {
            Wait(socket, Libc.POLLIN, watch, limit);
            nint count;
            fixed (byte* start = buffer)
            {
                count = Libc.recv(socket, start + length, (nuint)(buffer.Length - length), 0);
            }

            if (count == 0)
            {
                return buffer.AsSpan(0, length);
            }

            if (count < 0)
            {
                if (Marshal.GetLastPInvokeError() is Libc.EAGAIN or Libc.EINTR)
                {
                    continue;
                }

                throw Failed("the connection broke");
            }

            length += (int)count;
            if (length > most + MostOfAHead)
            {
                throw new IOException(string.Create(CultureInfo.InvariantCulture, $"its answer is longer than {most / 1024} KiB"));
            }

            if (length == buffer.Length)
            {
                Array.Resize(ref buffer, Math.Min(buffer.Length * 2, most + MostOfAHead + 1));
            }

            // Some servers keep the connection all the same, and say how long the answer is.
            if (EndOf(buffer.AsSpan(0, length)) is { } end && length >= end)
            {
                return buffer.AsSpan(0, (int)end);
            }
        }
    }

    // Where an answer ends that says how long it is; null when it does not, or its head is not there yet.
    private static long? EndOf(ReadOnlySpan<byte> bytes)
    {
        var head = bytes.IndexOf("\r\n\r\n"u8);
        return head >= 0 && HeaderOf(Encoding.Latin1.GetString(bytes[..head]), "Content-Length") is { } text && long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var length)
            ? head + 4 + length : null;
    }

    /// <summary>Takes an answer apart.</summary>
    /// <exception cref="IOException">It is none, or it ends early.</exception>
    internal static LocalAnswer Parse(ReadOnlySpan<byte> bytes)
    {
        var end = bytes.IndexOf("\r\n\r\n"u8);
        if (!bytes.StartsWith("HTTP/1."u8) || bytes.Length < 12 || !Utf8Parser.TryParse(bytes.Slice(9, 3), out int status, out var digits) || digits != 3 || end < 0 || end > MostOfAHead)
        {
            throw new IOException(bytes.IsEmpty ? "it closed the connection without an answer" : "what it answers is not HTTP");
        }

        var head = Encoding.Latin1.GetString(bytes[..end]);
        var body = bytes[(end + 4)..];
        if (HeaderOf(head, "Transfer-Encoding") is { } coding)
        {
            throw new IOException($"it answers in a transfer coding that HTTP/1.0 has not ({coding})");
        }

        if (HeaderOf(head, "Content-Length") is { } text && long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var length) && body.Length < length)
        {
            throw new IOException("its answer ends early");
        }

        return new LocalAnswer(status, Encoding.UTF8.GetString(body));
    }

    private static string? HeaderOf(string head, string name)
    {
        foreach (var line in head.Split("\r\n").Skip(1))
        {
            var colon = line.IndexOf(':', StringComparison.Ordinal);
            if (colon > 0 && line.AsSpan(0, colon).Trim().Equals(name, StringComparison.OrdinalIgnoreCase))
            {
                return line[(colon + 1)..].Trim();
            }
        }

        return null;
    }

    private static void Wait(SafeFileHandle socket, short events, Stopwatch watch, TimeSpan limit)
    {
        while (true)
        {
            var left = (int)Math.Ceiling((limit - watch.Elapsed).TotalMilliseconds);
            var poll = new Libc.PollFd { fd = (int)socket.DangerousGetHandle(), events = events };
            var ready = left <= 0 ? 0 : Libc.poll(&poll, 1, left);
            if (ready > 0)
            {
                return;
            }

            if (ready == 0)
            {
                throw new IOException(string.Create(CultureInfo.InvariantCulture, $"no answer within {limit.TotalSeconds:0.###} s"));
            }

            if (Marshal.GetLastPInvokeError() != Libc.EINTR)
            {
                throw Failed("no answer");
            }
        }
    }

    // sockaddr_in and sockaddr_in6 (ip(7), ipv6(7)): the family in the machine's byte order, the port in the network's.
    private static byte[] SocketAddress(AddressPort at)
    {
        const ushort AF_INET = 2, AF_INET6 = 10;
        var isIPv4 = at.Address.IsIPv4;
        var bytes = new byte[isIPv4 ? 16 : 28];
        BitConverter.TryWriteBytes(bytes, isIPv4 ? AF_INET : AF_INET6);
        System.Buffers.Binary.BinaryPrimitives.WriteUInt16BigEndian(bytes.AsSpan(2), at.Port);
        at.Address.ToIPAddress().TryWriteBytes(bytes.AsSpan(isIPv4 ? 4 : 8), out _);
        return bytes;
    }

    private static IOException Failed(string what) => new($"{what}: {Marshal.GetLastPInvokeErrorMessage().ToLowerInvariant()}");
}
