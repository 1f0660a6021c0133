using System.Buffers.Binary;

namespace TraceProbe.Core.Dns;

/// <summary>
/// Reads a DNS message (RFC 1035) front to back without allocating: the header, the questions, then the records. Any bytes are
/// ordinary input: nothing throws, and nothing is read outside of the message. Why a read returned false is in <see cref="State"/>.
/// </summary>
public ref struct DnsReader
{
    /// <summary>Bytes of a header.</summary>
    public const int HeaderLength = 12;

    private const ushort SingleBits = 0x87b0;

    private readonly ReadOnlySpan<byte> _message;
    private readonly ushort _word;
    private int _position;
    private int _questionsLeft;
    private int _section;
    private int _recordsLeft;

    private DnsReader(ReadOnlySpan<byte> message)
    {
        _message = message;
        Id = BinaryPrimitives.ReadUInt16BigEndian(message);
        _word = BinaryPrimitives.ReadUInt16BigEndian(message[2..]);
        _questionsLeft = QuestionCount;
        _recordsLeft = CountOf(0);
        _position = HeaderLength;
    }

    /// <summary>The number that ties an answer to its query.</summary>
    public ushort Id { get; }

    /// <summary>The header's single-bit flags.</summary>
    public readonly DnsFlags Flags => (DnsFlags)(_word & SingleBits);

    /// <summary>The kind of query; 0 is an ordinary one.</summary>
    public readonly int Opcode => (_word >> 11) & 15;

    /// <summary>The header's four bits of response code; an OPT record may hold higher ones.</summary>
    public readonly DnsResponseCode ResponseCode => (DnsResponseCode)(_word & 15);

    /// <summary>How many questions the header announces.</summary>
    public readonly int QuestionCount => BinaryPrimitives.ReadUInt16BigEndian(_message[4..]);

    /// <summary>How many records the header announces in a section.</summary>
    public readonly int RecordCount(DnsSection section) => section is >= DnsSection.Answer and <= DnsSection.Additional ? CountOf((int)section) : 0;

    /// <summary>Whether all that was read was whole; not whole once a read has returned false before the end.</summary>
    public DnsReadState State { get; private set; }

    /// <summary>Begins to read a message; false if it is shorter than a header.</summary>
    public static bool TryCreate(ReadOnlySpan<byte> message, out DnsReader reader)
    {
        var whole = message.Length >= HeaderLength;
        reader = whole ? new DnsReader(message) : default;
        return whole;
    }

    /// <summary>Reads the next question.</summary>
    /// <returns>False when there is none left, or the message is cut or malformed here: see <see cref="State"/>.</returns>
    public bool TryReadQuestion(out DnsName name, out DnsRecordType type, out ushort questionClass)
    {
        name = default;
        type = default;
        questionClass = 0;
        if (_questionsLeft == 0 || State != DnsReadState.Whole)
        {
            return false;
        }

        State = DnsName.TryRead(_message, _position, out var read, out var next);
        if (State == DnsReadState.Whole && _message.Length - next < 4)
        {
            State = DnsReadState.Cut;
        }

        if (State != DnsReadState.Whole)
        {
            return false;
        }

        name = read;
        type = (DnsRecordType)BinaryPrimitives.ReadUInt16BigEndian(_message[next..]);
        questionClass = BinaryPrimitives.ReadUInt16BigEndian(_message[(next + 2)..]);
        _position = next + 4;
        _questionsLeft--;
        return true;
    }

    /// <summary>Reads the next record of any section, passing over questions not read.</summary>
    /// <returns>False when there is none left, or the message is cut or malformed here: see <see cref="State"/>.</returns>
    public bool TryReadRecord(out DnsRecordView record)
    {
        record = default;
        while (_questionsLeft > 0)
        {
            if (!TryReadQuestion(out _, out _, out _))
            {
                return false;
            }
        }

        while (_recordsLeft == 0)
        {
            if (_section >= (int)DnsSection.Additional)
            {
                return false;
            }

            _recordsLeft = CountOf(++_section);
        }

        if (State != DnsReadState.Whole)
        {
            return false;
        }

        State = DnsName.TryRead(_message, _position, out var name, out var fields);
        if (State != DnsReadState.Whole)
        {
            return false;
        }

        // TYPE, CLASS, TTL, RDLENGTH
        if (_message.Length - fields < 10)
        {
            State = DnsReadState.Cut;
            return false;
        }

        var rest = _message[fields..];
        var length = BinaryPrimitives.ReadUInt16BigEndian(rest[8..]);
        if (rest.Length - 10 < length)
        {
            State = DnsReadState.Cut;
            return false;
        }

        record = new DnsRecordView(_message, (DnsSection)_section, name, (DnsRecordType)BinaryPrimitives.ReadUInt16BigEndian(rest),
            BinaryPrimitives.ReadUInt16BigEndian(rest[2..]), BinaryPrimitives.ReadUInt32BigEndian(rest[4..]), fields + 10, length);
        _position = fields + 10 + length;
        _recordsLeft--;
        return true;
    }

    private readonly int CountOf(int section) => _message.IsEmpty ? 0 : BinaryPrimitives.ReadUInt16BigEndian(_message[(6 + 2 * section)..]);
}
