using System.Buffers.Binary;

namespace TraceProbe.Core.Dns;

/// <summary>Writes DNS queries of one question (RFC 1035 section 4.1), with EDNS where wanted (RFC 6891).</summary>
public static class DnsQuery
{
    /// <summary>The most bytes a query may have.</summary>
    public const int MaxLength = DnsReader.HeaderLength + DnsName.MaxEncodedLength + 4 + OptLength;

    private const int OptLength = 11;

    /// <summary>Writes a query.</summary>
    /// <param name="destination">Where to; <see cref="MaxLength"/> bytes always suffice.</param>
    /// <param name="id">The number that will tie the answer to this query.</param>
    /// <param name="name">The name, as <see cref="DnsName.TryEncode"/> takes it.</param>
    /// <param name="type">The record type wanted.</param>
    /// <param name="written">The bytes written; 0 where false is returned.</param>
    /// <param name="recursionDesired">Whether to set RD, as every stub resolver does.</param>
    /// <param name="ednsPayloadSize">The largest UDP payload, in bytes, to announce by EDNS; 0 for no EDNS.</param>
    /// <returns>False if the name is none, or the destination too short.</returns>
    public static bool TryWrite(Span<byte> destination, ushort id, ReadOnlySpan<char> name, DnsRecordType type, out int written,
        bool recursionDesired = true, ushort ednsPayloadSize = 0)
    {
        written = 0;
        if (destination.Length < DnsReader.HeaderLength
            || !DnsName.TryEncode(name, destination[DnsReader.HeaderLength..], out var nameLength))
        {
            return false;
        }

        var length = DnsReader.HeaderLength + nameLength + 4 + (ednsPayloadSize > 0 ? OptLength : 0);
        if (destination.Length < length)
        {
            return false;
        }

        destination[..DnsReader.HeaderLength].Clear();
        BinaryPrimitives.WriteUInt16BigEndian(destination, id);
        BinaryPrimitives.WriteUInt16BigEndian(destination[2..], (ushort)(recursionDesired ? DnsFlags.RecursionDesired : DnsFlags.None));
        destination[5] = 1;
        var rest = destination[(DnsReader.HeaderLength + nameLength)..];
        BinaryPrimitives.WriteUInt16BigEndian(rest, (ushort)type);
        BinaryPrimitives.WriteUInt16BigEndian(rest[2..], 1);
        if (ednsPayloadSize > 0)
        {
            destination[11] = 1;
            rest = rest[4..];
            rest[..OptLength].Clear();
            BinaryPrimitives.WriteUInt16BigEndian(rest[1..], (ushort)DnsRecordType.OPT);
            BinaryPrimitives.WriteUInt16BigEndian(rest[3..], ednsPayloadSize);
        }

        written = length;
        return true;
    }

    /// <summary>Makes a query.</summary>
    /// <inheritdoc cref="TryWrite" path="/param[@name != 'destination' and @name != 'written']"/>
    /// <returns>The query's bytes.</returns>
    /// <exception cref="FormatException">The name is none: an empty or too long label, more than 253 characters, or characters that are not ASCII.</exception>
    public static byte[] Create(ushort id, string name, DnsRecordType type, bool recursionDesired = true, ushort ednsPayloadSize = 0)
    {
        Span<byte> buffer = stackalloc byte[MaxLength];
        return TryWrite(buffer, id, name, type, out var written, recursionDesired, ednsPayloadSize)
            ? buffer[..written].ToArray()
            : throw new FormatException($"'{name}' cannot be asked for: labels have 1 to {DnsName.MaxLabelLength} bytes, a name at most {DnsName.MaxEncodedLength - 2}, all ASCII.");
    }
}
