using System.Buffers.Binary;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Dns;

/// <summary>One resource record where it stands in its message (RFC 1035 section 4.1.3).</summary>
public readonly ref struct DnsRecordView
{
    private readonly ReadOnlySpan<byte> _message;
    private readonly int _dataOffset;
    private readonly int _dataLength;

    internal DnsRecordView(ReadOnlySpan<byte> message, DnsSection section, DnsName name, DnsRecordType type, ushort recordClass, uint timeToLive, int dataOffset, int dataLength)
    {
        _message = message;
        Section = section;
        Name = name;
        Type = type;
        Class = recordClass;
        TimeToLive = timeToLive;
        _dataOffset = dataOffset;
        _dataLength = dataLength;
    }

    /// <summary>The section it stands in.</summary>
    public DnsSection Section { get; }

    /// <summary>The name it belongs to.</summary>
    public DnsName Name { get; }

    /// <summary>Its type.</summary>
    public DnsRecordType Type { get; }

    /// <summary>Its class, 1 for the Internet; for OPT the largest UDP payload, in bytes, that the sender can take.</summary>
    public ushort Class { get; }

    /// <summary>Seconds that it may be kept; for OPT the extended response code, version and flags (RFC 6891 section 6.1.3).</summary>
    public uint TimeToLive { get; }

    /// <summary>The data, not interpreted; names within may be compressed and then need the whole message.</summary>
    public ReadOnlySpan<byte> Data => _message.Slice(_dataOffset, _dataLength);

    /// <summary>The address of an A or AAAA record.</summary>
    /// <returns>False if the record is no such one, or its data has the wrong length.</returns>
    public bool TryGetAddress(out IpAddress address)
    {
        address = default;
        if (Type == DnsRecordType.A && _dataLength == 4 || Type == DnsRecordType.AAAA && _dataLength == 16)
        {
            address = IpAddress.Read(Data);
            return true;
        }

        return false;
    }

    /// <summary>The name that a CNAME, NS or PTR record leads to.</summary>
    /// <returns>False if the record is no such one, or its data is not exactly one name.</returns>
    public bool TryGetTarget(out DnsName target)
    {
        target = default;
        return Type is DnsRecordType.CNAME or DnsRecordType.NS or DnsRecordType.PTR
            && TryReadName(0, out target, out var next) && next == _dataLength;
    }

    /// <summary>What an SRV record says (RFC 2782).</summary>
    /// <returns>False if the record is no such one, or its data is malformed.</returns>
    public bool TryGetService(out ushort priority, out ushort weight, out ushort port, out DnsName target)
    {
        priority = weight = port = 0;
        target = default;
        if (Type != DnsRecordType.SRV || _dataLength < 7 || !TryReadName(6, out target, out var next) || next != _dataLength)
        {
            return false;
        }

        var data = Data;
        priority = BinaryPrimitives.ReadUInt16BigEndian(data);
        weight = BinaryPrimitives.ReadUInt16BigEndian(data[2..]);
        port = BinaryPrimitives.ReadUInt16BigEndian(data[4..]);
        return true;
    }

    /// <summary>What of an SOA record a client needs: the primary server, and for how many seconds an absence may be kept (RFC 2308 section 5).</summary>
    /// <returns>False if the record is no such one, or its data is malformed.</returns>
    public bool TryGetAuthority(out DnsName primary, out uint negativeTimeToLive)
    {
        primary = default;
        negativeTimeToLive = 0;
        if (Type != DnsRecordType.SOA || !TryReadName(0, out primary, out var mailbox)
            || !TryReadName(mailbox, out _, out var numbers) || numbers != _dataLength - 20)
        {
            return false;
        }

        // "the minimum of the MINIMUM field of the SOA record and the TTL of the SOA itself"
        negativeTimeToLive = Math.Min(TimeToLive, BinaryPrimitives.ReadUInt32BigEndian(Data[^4..]));
        return true;
    }

    // The bytes of the name itself must lie within the record's data; what its pointers lead to lies before.
    private bool TryReadName(int offset, out DnsName name, out int next)
    {
        var state = DnsName.TryRead(_message[..(_dataOffset + _dataLength)], _dataOffset + offset, out name, out next);
        next -= _dataOffset;
        return state == DnsReadState.Whole;
    }
}
