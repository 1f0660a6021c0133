using System.Buffers.Binary;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using TraceProbe.Capture;
using TraceProbe.Core.Net;
using static TraceProbe.Agent.Requests.Libc;

namespace TraceProbe.Agent.Requests;

/// <summary>
/// A non-blocking socket made by this process in the client's namespace. The framework's own is not used: it reports SocketError
/// where we need the errno.
/// Calls return what the kernel returns, a failure as the negative errno.
/// </summary>
internal sealed unsafe class ClientSocket() : SafeHandleMinusOneIsInvalid(true)
{
    private const int AddressLength = 28;

    private int _family;

    /// <summary>Makes a socket; 0 or the errno.</summary>
    /// <param name="place">The namespace; null for that of this process.</param>
    /// <param name="ipv4">Whether it is for IPv4, else for IPv6.</param>
    /// <param name="stream">Whether it is for TCP, else for UDP.</param>
    /// <param name="made">The socket; invalid when it could not be made.</param>
    /// <exception cref="UnauthorizedAccessException">The namespace may not be entered; the message names the capability that is missing.</exception>
    internal static int TryOpen(NetworkNamespace? place, bool ipv4, bool stream, out ClientSocket made)
    {
        made = new ClientSocket { _family = ipv4 ? AF_INET : AF_INET6 };
        var type = (stream ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK | SOCK_CLOEXEC;
        if (place is not null)
        {
            var result = place.OpenSocket(made._family, type, 0);
            made.SetHandle(Math.Max(result, -1));
            return result < 0 ? -result : 0;
        }

        made.SetHandle(socket(made._family, type, 0));
        return made.IsInvalid ? Marshal.GetLastPInvokeError() : 0;
    }

    /// <summary>Begins to connect: 0, EINPROGRESS, or what failed.</summary>
    internal int Connect(AddressPort remote)
    {
        var address = stackalloc byte[AddressLength];
        return connect(this, address, Write(remote, address)) == 0 ? 0 : Marshal.GetLastPInvokeError();
    }

    /// <summary>Waits for a connect that is in progress: 0, or the errno, ETIMEDOUT when the deadline passes first.</summary>
    internal int FinishConnect(Deadline deadline)
    {
        if (!Wait(POLLOUT, deadline))
        {
            return ETIMEDOUT;
        }

        int error;
        var length = (uint)sizeof(int);
        return getsockopt(this, SOL_SOCKET, SO_ERROR, &error, &length) == 0 ? error : Marshal.GetLastPInvokeError();
    }

    /// <summary>The local side; null while it has no address.</summary>
    internal AddressPort? Local()
    {
        var address = stackalloc byte[AddressLength];
        var length = (uint)AddressLength;
        return getsockname(this, address, &length) == 0 && Read(address, length) is { } local && !local.Address.IsUnspecified ? local : null;
    }

    /// <summary>Sends what the kernel takes at once: the bytes taken, or the negative errno.</summary>
    internal int Send(ReadOnlySpan<byte> bytes)
    {
        // An empty span has no address of its own.
        byte none;
        fixed (byte* start = bytes)
        {
            var sent = send(this, start == null ? &none : start, (nuint)bytes.Length, MSG_NOSIGNAL);
            return sent >= 0 ? (int)sent : -Marshal.GetLastPInvokeError();
        }
    }

    /// <summary>Sends all of it: 0, or the errno, ETIMEDOUT when the deadline passes first.</summary>
    internal int SendAll(ReadOnlySpan<byte> bytes, Deadline deadline)
    {
        while (!bytes.IsEmpty)
        {
            var sent = Send(bytes);
            if (sent == -EAGAIN)
            {
                if (!Wait(POLLOUT, deadline))
                {
                    return ETIMEDOUT;
                }
            }
            else if (sent != -EINTR)
            {
                if (sent < 0)
                {
                    return -sent;
                }

                bytes = bytes[sent..];
            }
        }

        return 0;
    }

    /// <summary>Receives what is there: the bytes received, 0 at the end of a stream, or the negative errno.</summary>
    internal int Receive(Span<byte> buffer)
    {
        fixed (byte* start = buffer)
        {
            var received = recv(this, start, (nuint)buffer.Length, 0);
            return received >= 0 ? (int)received : -Marshal.GetLastPInvokeError();
        }
    }

    /// <summary>Waits until something is there and receives it; <c>-ETIMEDOUT</c> when the deadline passes first.</summary>
    internal int Receive(Span<byte> buffer, Deadline deadline)
    {
        while (true)
        {
            var received = Receive(buffer);
            if (received == -EAGAIN)
            {
                if (!Wait(POLLIN, deadline))
                {
                    return -ETIMEDOUT;
                }
            }
            else if (received != -EINTR)
            {
                return received;
            }
            else
            {
                deadline.Cancellation.ThrowIfCancellationRequested();
            }
        }
    }

    /// <summary>Sends a datagram to an address; the bytes sent or the negative errno.</summary>
    internal int SendTo(ReadOnlySpan<byte> bytes, AddressPort remote)
    {
        var address = stackalloc byte[AddressLength];
        fixed (byte* start = bytes)
        {
            var sent = sendto(this, start, (nuint)bytes.Length, MSG_NOSIGNAL, address, Write(remote, address));
            return sent >= 0 ? (int)sent : -Marshal.GetLastPInvokeError();
        }
    }

    /// <summary>Receives a datagram that is there, and who sent it.</summary>
    internal int ReceiveFrom(Span<byte> buffer, out AddressPort? remote)
    {
        var address = stackalloc byte[AddressLength];
        var length = (uint)AddressLength;
        fixed (byte* start = buffer)
        {
            var received = recvfrom(this, start, (nuint)buffer.Length, 0, address, &length);
            remote = received >= 0 ? Read(address, length) : null;
            return received >= 0 ? (int)received : -Marshal.GetLastPInvokeError();
        }
    }

    /// <summary>Waits for one of the events, or for an error or a hang-up.</summary>
    /// <returns>False when the deadline passed first.</returns>
    internal bool Wait(short events, Deadline deadline) => Wait(this, null, events, deadline);

    /// <summary>Waits for one of the events on either socket.</summary>
    /// <returns>False when the deadline passed first.</returns>
    internal static bool Wait(ClientSocket first, ClientSocket? second, short events, Deadline deadline)
    {
        var fds = stackalloc PollFd[2];
        while (true)
        {
            fds[0] = new PollFd { Fd = (int)first.DangerousGetHandle(), Events = events };
            fds[1] = new PollFd { Fd = second is null ? -1 : (int)second.DangerousGetHandle(), Events = events };
            var ready = poll(fds, 2, deadline.PollMilliseconds());
            if (ready > 0)
            {
                return true;
            }

            if (ready < 0 && Marshal.GetLastPInvokeError() is not EINTR and var errno)
            {
                throw new IOException($"poll failed: {Marshal.GetPInvokeErrorMessage(errno)} (errno {errno}).");
            }

            if (deadline.HasPassed)
            {
                return false;
            }
        }
    }

    /// <inheritdoc/>
    protected override bool ReleaseHandle() => close(handle) == 0;

    // struct sockaddr_in: family (host order), port, address. struct sockaddr_in6: family, port, flow, address, scope.
    private uint Write(AddressPort remote, byte* address)
    {
        var bytes = new Span<byte>(address, AddressLength);
        bytes.Clear();
        MemoryMarshal.Write(bytes, (ushort)_family);
        BinaryPrimitives.WriteUInt16BigEndian(bytes[2..], remote.Port);
        if (_family == AF_INET)
        {
            BinaryPrimitives.WriteUInt32BigEndian(bytes[4..], (uint)remote.Address.Low);
            return 16;
        }

        remote.Address.WriteMapped(bytes[8..24]);
        return AddressLength;
    }

    private static AddressPort? Read(byte* address, uint length)
    {
        var bytes = new ReadOnlySpan<byte>(address, (int)Math.Min(length, AddressLength));
        if (bytes.Length < 16)
        {
            return null;
        }

        var port = BinaryPrimitives.ReadUInt16BigEndian(bytes[2..]);
        return MemoryMarshal.Read<ushort>(bytes) switch
        {
            AF_INET => new AddressPort(IpAddress.Read(bytes[4..8]), port),
            AF_INET6 when bytes.Length >= 24 => new AddressPort(IpAddress.Read(bytes[8..24]), port),
            _ => null,
        };
    }
}
