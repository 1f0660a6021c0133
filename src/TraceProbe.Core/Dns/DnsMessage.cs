using System.Collections.Immutable;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Dns;

/// <summary>A DNS message as far as a client's resolver acts on it, taken out of its bytes (RFC 1035; EDNS as in RFC 6891).</summary>
public sealed record DnsMessage
{
    private const ushort Internet = 1;

    /// <summary>The number that ties an answer to its query.</summary>
    public required ushort Id { get; init; }

    /// <summary>The header's single-bit flags.</summary>
    public required DnsFlags Flags { get; init; }

    /// <summary>The kind of query; 0 is an ordinary one.</summary>
    public int Opcode { get; init; }

    /// <summary>How the query fared, the extended bits of an OPT record included; <see cref="DnsResponseCode.NoError"/> in a query.</summary>
    public DnsResponseCode ResponseCode { get; init; }

    /// <summary>The first question; null where there is none, as in some error answers, or where the bytes end before it does.</summary>
    public DnsQuestion? Question { get; init; }

    /// <summary>The records of the answer section that are whole and of a type kept, in their order.</summary>
    public ImmutableArray<DnsRecord> Answers { get; init; } = [];

    /// <summary>The SOA record of the authority section, by which a server says that a name or a record does not exist.</summary>
    public DnsRecord? Authority { get; init; }

    /// <summary>The largest UDP payload, in bytes, that the sender says it can take; null where it does not speak EDNS.</summary>
    public ushort? EdnsPayloadSize { get; init; }

    /// <summary>Whether the bytes ended before the message did, so that records may be missing here that were sent.</summary>
    public bool Partial { get; init; }

    /// <summary>Whether this is a response (QR).</summary>
    public bool IsResponse => (Flags & DnsFlags.Response) != 0;

    /// <summary>Whether the server cut the message and the client should ask again over TCP (TC).</summary>
    public bool IsTruncated => (Flags & DnsFlags.Truncated) != 0;

    /// <summary>The name that the answers end at after following every CNAME from the question; the question's own where there is none.</summary>
    public string? CanonicalName
    {
        get
        {
            var name = Question?.Name;
            // One hop per CNAME at most, so a ring of them ends.
            for (var hops = 0; hops < Answers.Length; hops++)
            {
                var at = name;
                DnsRecord? alias = null;
                foreach (var record in Answers)
                {
                    if (record.Type == DnsRecordType.CNAME && record.Name == at)
                    {
                        alias = record;
                        break;
                    }
                }

                if (alias is null)
                {
                    break;
                }

                name = alias.Target;
            }

            return name;
        }
    }

    /// <summary>The addresses that answer the question: those of <see cref="CanonicalName"/>, in their order.</summary>
    public ImmutableArray<IpAddress> Addresses
    {
        get
        {
            var name = CanonicalName;
            var addresses = ImmutableArray.CreateBuilder<IpAddress>();
            foreach (var record in Answers)
            {
                if (record.Address is { } address && record.Name == name)
                {
                    addresses.Add(address);
                }
            }

            return addresses.DrainToImmutable();
        }
    }

    /// <summary>Reads a message as it stands in a UDP datagram.</summary>
    /// <param name="bytes">The message, or its beginning where a capture kept no more; what follows a whole message is passed over.</param>
    /// <param name="message">The message, <see cref="Partial"/> where the bytes end before it does.</param>
    /// <returns>False if the bytes hold no whole header, or break the format.</returns>
    public static bool TryRead(ReadOnlySpan<byte> bytes, out DnsMessage message)
    {
        message = null!;
        if (!DnsReader.TryCreate(bytes, out var reader))
        {
            return false;
        }

        DnsQuestion? question = null;
        if (reader.TryReadQuestion(out var name, out var type, out _))
        {
            question = new DnsQuestion(name.ToString(), type);
        }

        var answers = ImmutableArray.CreateBuilder<DnsRecord>();
        DnsRecord? authority = null;
        ushort? payloadSize = null;
        var code = (int)reader.ResponseCode;
        while (reader.TryReadRecord(out var view))
        {
            if (view.Type == DnsRecordType.OPT)
            {
                // RFC 6891 section 6.1.1: one in the additional section; should there be more, the first counts.
                if (view.Section == DnsSection.Additional && payloadSize is null)
                {
                    payloadSize = view.Class;
                    code |= (int)(view.TimeToLive >> 24) << 4;
                }

                continue;
            }

            if (view.Class != Internet || view.Section == DnsSection.Additional)
            {
                continue;
            }

            if (!TryTake(view, out var record))
            {
                return false;
            }

            if (record is null)
            {
                continue;
            }

            if (view.Section == DnsSection.Answer)
            {
                answers.Add(record);
            }
            else if (record.Type == DnsRecordType.SOA)
            {
                authority ??= record;
            }
        }

        if (reader.State == DnsReadState.Malformed)
        {
            return false;
        }

        message = new DnsMessage
        {
            Id = reader.Id,
            Flags = reader.Flags,
            Opcode = reader.Opcode,
            ResponseCode = (DnsResponseCode)code,
            Question = question,
            Answers = answers.DrainToImmutable(),
            Authority = authority,
            EdnsPayloadSize = payloadSize,
            Partial = reader.State == DnsReadState.Cut,
        };
        return true;
    }

    /// <summary>Reads a message as it stands at the beginning of a TCP segment, behind its two bytes of length (RFC 1035 section 4.2.2).</summary>
    /// <param name="bytes">The segment's payload, or its beginning.</param>
    /// <param name="message">The message, <see cref="Partial"/> where the bytes end before it does.</param>
    /// <returns>False if the bytes hold no whole header, or break the format.</returns>
    public static bool TryReadTcp(ReadOnlySpan<byte> bytes, out DnsMessage message)
    {
        message = null!;
        if (bytes.Length < 2)
        {
            return false;
        }

        var length = (bytes[0] << 8) | bytes[1];
        bytes = bytes[2..];
        return TryRead(bytes.Length > length ? bytes[..length] : bytes, out message);
    }

    // False: a record of a type kept whose data is malformed. Null: a type not kept.
    private static bool TryTake(DnsRecordView view, out DnsRecord? record)
    {
        record = null;
        switch (view.Type)
        {
            case DnsRecordType.A or DnsRecordType.AAAA:
                if (!view.TryGetAddress(out var address))
                {
                    return false;
                }

                record = new DnsRecord { Name = view.Name.ToString(), Type = view.Type, TimeToLive = view.TimeToLive, Address = address };
                return true;
            case DnsRecordType.CNAME or DnsRecordType.NS or DnsRecordType.PTR:
                if (!view.TryGetTarget(out var target))
                {
                    return false;
                }

                record = new DnsRecord { Name = view.Name.ToString(), Type = view.Type, TimeToLive = view.TimeToLive, Target = target.ToString() };
                return true;
            case DnsRecordType.SRV:
                if (!view.TryGetService(out var priority, out var weight, out var port, out var host))
                {
                    return false;
                }

                record = new DnsRecord
                {
                    Name = view.Name.ToString(),
                    Type = view.Type,
                    TimeToLive = view.TimeToLive,
                    Target = host.ToString(),
                    Port = port,
                    Priority = priority,
                    Weight = weight,
                };
                return true;
            case DnsRecordType.SOA:
                if (!view.TryGetAuthority(out var primary, out var negative))
                {
                    return false;
                }

                record = new DnsRecord { Name = view.Name.ToString(), Type = view.Type, TimeToLive = negative, Target = primary.ToString() };
                return true;
            default:
                return true;
        }
    }
}
