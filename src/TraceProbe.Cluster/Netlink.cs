using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace TraceProbe.Cluster;

/// <summary>Takes one message of the kernel's answer.</summary>
/// <param name="type">Its type.</param>
/// <param name="payload">What follows its header.</param>
internal delegate void NetlinkHandler(ushort type, ReadOnlySpan<byte> payload);

/// <summary>
/// A question to the kernel over netlink (include/uapi/linux/netlink.h) in the calling thread's network namespace. Only questions are asked
/// here: nothing of the kernel's is changed.
/// </summary>
internal sealed unsafe class NetlinkSocket : IDisposable
{
    public const int NETLINK_ROUTE = 0;
    public const int NETLINK_SOCK_DIAG = 4;
    public const int NETLINK_NETFILTER = 12;
    public const int NETLINK_GENERIC = 16;
    public const ushort NLM_F_REQUEST = 1;
    public const ushort NLM_F_ACK = 4;
    public const ushort NLM_F_DUMP = 0x300;
    public const int ENOENT = 2;
    public const int EPERM = 1;

    private const int AF_NETLINK = 16;
    private const int SOCK_RAW = 3;
    private const int SOCK_CLOEXEC = 0x80000;
    private const int SOL_SOCKET = 1;
    private const int SO_RCVTIMEO = 20;
    private const int MSG_TRUNC = 0x20;
    private const ushort NLMSG_ERROR = 2;
    private const ushort NLMSG_DONE = 3;
    private const ushort NLM_F_DUMP_INTR = 0x10;
    private const int HeaderSize = 16; // nlmsghdr
    private const int SecondsToWait = 10;

    private readonly SafeFileHandle _socket;
    private readonly byte[] _buffer = new byte[64 * 1024]; // the kernel makes a dump's datagrams no longer than 32 kB

    private NetlinkSocket(SafeFileHandle socket) => _socket = socket;

    /// <summary>Opens a socket; null when this kernel does not speak that protocol.</summary>
    public static NetlinkSocket? Open(int protocol)
    {
        var socket = Libc.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
        if (socket.IsInvalid)
        {
            socket.Dispose();
            return null;
        }

        Span<long> wait = [SecondsToWait, 0]; // struct timeval
        fixed (long* value = wait)
        {
            _ = Libc.setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, value, (uint)(wait.Length * sizeof(long)));
        }

        return new NetlinkSocket(socket);
    }

    public void Dispose() => _socket.Dispose();

    /// <summary>Asks, and hands every message of the answer on.</summary>
    /// <param name="message">The question; a dump that changed while it was taken is asked for anew.</param>
    /// <param name="handler">Takes the messages.</param>
    /// <param name="restart">Called before a dump is asked for again, to forget what was taken; may be null.</param>
    /// <returns>0, or the kernel's error number (errno(3)) when it refused.</returns>
    /// <exception cref="IOException">The kernel does not answer, or its answer makes no sense.</exception>
    public int Ask(NetlinkMessage message, NetlinkHandler handler, Action? restart = null)
    {
        for (var attempt = 0; ; attempt++)
        {
            Send(message.Finish());
            var error = Receive(handler, out var interrupted);
            if (!interrupted || attempt == 5)
            {
                return error;
            }

            restart?.Invoke();
        }
    }

    private void Send(ReadOnlySpan<byte> message)
    {
        fixed (byte* bytes = message)
        {
            if (Libc.send(_socket, bytes, (nuint)message.Length, 0) < 0)
            {
                throw new IOException($"The kernel could not be asked: {Marshal.GetLastPInvokeErrorMessage()}.");
            }
        }
    }

    private int Receive(NetlinkHandler handler, out bool interrupted)
    {
        interrupted = false;
        while (true)
        {
            nint length;
            fixed (byte* bytes = _buffer)
            {
                length = Libc.recv(_socket, bytes, (nuint)_buffer.Length, MSG_TRUNC);
            }

            if (length < 0 && Marshal.GetLastPInvokeError() == Libc.EINTR)
            {
                continue;
            }

            if (length <= 0 || length > _buffer.Length)
            {
                throw new IOException(length > _buffer.Length ? "The kernel's answer is too long." : $"The kernel does not answer: {Marshal.GetLastPInvokeErrorMessage()}.");
            }

            if (!Take(_buffer.AsSpan(0, (int)length), handler, ref interrupted, out var error))
            {
                return error;
            }
        }
    }

    /// <summary>Takes the messages of one datagram; false when the answer ends with it.</summary>
    /// <exception cref="IOException">A message's length is impossible.</exception>
    internal static bool Take(ReadOnlySpan<byte> datagram, NetlinkHandler handler, ref bool interrupted, out int error)
    {
        error = 0;
        while (datagram.Length >= HeaderSize)
        {
            // nlmsg_len, nlmsg_type, nlmsg_flags, nlmsg_seq, nlmsg_pid; this machine's byte order
            var length = MemoryMarshal.Read<int>(datagram);
            var type = MemoryMarshal.Read<ushort>(datagram[4..]);
            if (length < HeaderSize || length > datagram.Length)
            {
                throw new IOException("The kernel's answer makes no sense.");
            }

            interrupted |= (MemoryMarshal.Read<ushort>(datagram[6..]) & NLM_F_DUMP_INTR) != 0;
            if (type is NLMSG_DONE or NLMSG_ERROR)
            {
                error = length >= HeaderSize + 4 ? -MemoryMarshal.Read<int>(datagram[HeaderSize..]) : 0;
                return false;
            }

            handler(type, datagram[HeaderSize..length]);
            datagram = datagram[Math.Min((length + 3) & ~3, datagram.Length)..];
        }

        return true;
    }
}

/// <summary>A netlink message being put together.</summary>
internal sealed class NetlinkMessage
{
    private readonly List<byte> _bytes = [];

    /// <summary>Begins a message.</summary>
    /// <param name="type">Its type.</param>
    /// <param name="flags">Its flags beyond <c>NLM_F_REQUEST</c>.</param>
    /// <param name="header">The header of the family that follows.</param>
    public NetlinkMessage(ushort type, ushort flags, ReadOnlySpan<byte> header)
    {
        Span<byte> start = stackalloc byte[16];
        start.Clear();
        MemoryMarshal.Write(start[4..], type);
        MemoryMarshal.Write(start[6..], (ushort)(flags | NetlinkSocket.NLM_F_REQUEST));
        _bytes.AddRange(start);
        _bytes.AddRange(header);
        Pad();
    }

    /// <summary>Adds an attribute.</summary>
    public NetlinkMessage Add(ushort type, ReadOnlySpan<byte> value)
    {
        Span<byte> head = stackalloc byte[4];
        MemoryMarshal.Write(head, (ushort)(4 + value.Length));
        MemoryMarshal.Write(head[2..], type);
        _bytes.AddRange(head);
        _bytes.AddRange(value);
        Pad();
        return this;
    }

    /// <summary>Adds an attribute that holds others.</summary>
    public NetlinkMessage Add(ushort type, Action<NetlinkMessage> inner)
    {
        var at = _bytes.Count;
        Add((ushort)(type | 0x8000), []); // NLA_F_NESTED
        inner(this);
        Span<byte> length = stackalloc byte[2];
        MemoryMarshal.Write(length, (ushort)(_bytes.Count - at));
        (_bytes[at], _bytes[at + 1]) = (length[0], length[1]);
        return this;
    }

    /// <summary>Adds a number in this machine's byte order.</summary>
    public NetlinkMessage Add<T>(ushort type, T value) where T : unmanaged => Add(type, MemoryMarshal.AsBytes(new ReadOnlySpan<T>(in value)));

    /// <summary>Adds a port in network order.</summary>
    public NetlinkMessage AddPort(ushort type, ushort port) => Add(type, BinaryPrimitives.ReverseEndianness(port));

    /// <summary>The whole message.</summary>
    public ReadOnlySpan<byte> Finish()
    {
        var bytes = CollectionsMarshal.AsSpan(_bytes);
        MemoryMarshal.Write(bytes, bytes.Length);
        return bytes;
    }

    private void Pad()
    {
        while (_bytes.Count % 4 != 0)
        {
            _bytes.Add(0);
        }
    }
}

/// <summary>Reads the attributes of a netlink message one after the other; ends at one whose length is impossible.</summary>
internal ref struct NetlinkAttributes(ReadOnlySpan<byte> bytes)
{
    private ReadOnlySpan<byte> _rest = bytes;

    /// <summary>The attribute's type without its flags.</summary>
    public int Type { get; private set; }

    /// <summary>The attribute's value.</summary>
    public ReadOnlySpan<byte> Value { get; private set; }

    /// <summary>The value as a number in this machine's byte order, whatever its width; 0 when it has another width than a number.</summary>
    public readonly uint Number => Value.Length switch
    {
        1 => Value[0],
        2 => MemoryMarshal.Read<ushort>(Value),
        4 => MemoryMarshal.Read<uint>(Value),
        _ => 0,
    };

    /// <summary>The value as a number in network order, whatever its width; 0 when it has another width than a number.</summary>
    public readonly uint NetworkNumber => Value.Length switch
    {
        1 => Value[0],
        2 => BinaryPrimitives.ReadUInt16BigEndian(Value),
        4 => BinaryPrimitives.ReadUInt32BigEndian(Value),
        _ => 0,
    };

    /// <summary>The value as text.</summary>
    public readonly string Text => Encoding.UTF8.GetString(Value.TrimEnd((byte)0));

    /// <summary>Goes on to the next attribute.</summary>
    public bool Next()
    {
        if (_rest.Length < 4)
        {
            return false;
        }

        var length = MemoryMarshal.Read<ushort>(_rest);
        if (length < 4 || length > _rest.Length)
        {
            return false;
        }

        Type = MemoryMarshal.Read<ushort>(_rest[2..]) & 0x3fff; // without NLA_F_NESTED and NLA_F_NET_BYTEORDER
        Value = _rest[4..length];
        _rest = _rest[Math.Min((length + 3) & ~3, _rest.Length)..];
        return true;
    }
}
