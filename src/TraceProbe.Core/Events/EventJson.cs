using System.Buffers;
using System.Globalization;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Unicode;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Events;

/// <summary>
/// Events as lines of JSON, one object per line, members left out where they hold their default. What is written reads back
/// exactly. The member names are a format others read: add, never rename.
/// <para><c>{"kind":"PacketQueued","bootNs":81002,"netNs":4026532190,"ifName":"eth0","tuple":"tcp 10.0.0.1:33904 > 10.96.0.11:80","flags":"S"}</c></para>
/// </summary>
public static class EventJson
{
    /// <summary>The most bytes a line may have. An event with its payload needs about 1,500.</summary>
    public const int MaxLineLength = 64 * 1024;

    // The control bits as letters, from the lowest: FIN, SYN, RST, PSH, ACK, URG, ECE, CWR.
    private const string FlagLetters = "FSRPAUEC";

    private static readonly JsonWriterOptions Options = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping, SkipValidation = true };

    /// <summary>Writes events, each with a line feed behind it.</summary>
    public static void WriteLines(Stream stream, IEnumerable<NetworkEvent> events)
    {
        ArgumentNullException.ThrowIfNull(stream);
        ArgumentNullException.ThrowIfNull(events);
        var buffer = new ArrayBufferWriter<byte>(16 * 1024);
        using var writer = new Utf8JsonWriter(buffer, Options);
        foreach (var e in events)
        {
            writer.Reset(buffer);
            Write(writer, e);
            writer.Flush();
            buffer.Write("\n"u8);
            if (buffer.WrittenCount > 8 * 1024)
            {
                stream.Write(buffer.WrittenSpan);
                buffer.ResetWrittenCount();
            }
        }

        stream.Write(buffer.WrittenSpan);
    }

    /// <summary>Writes one event as a JSON object, without a line feed.</summary>
    public static void Write(Utf8JsonWriter writer, in NetworkEvent e)
    {
        ArgumentNullException.ThrowIfNull(writer);
        writer.WriteStartObject();
        writer.WriteString("kind"u8, e.Kind.ToString());
        writer.WriteNumber("bootNs"u8, e.BootNanoseconds);
        WriteNumber(writer, "netNs"u8, e.NetNs);
        WriteNumber(writer, "ifIndex"u8, e.InterfaceIndex);
        WriteName(writer, "ifName"u8, "ifNameBytes"u8, e.Interface);
        WriteNumber(writer, "pid"u8, e.Pid);
        WriteName(writer, "command"u8, "commandBytes"u8, e.Command);
        if (e.CgroupId != 0)
        {
            writer.WriteNumber("cgroupId"u8, e.CgroupId);
        }

        if (e.Socket != 0)
        {
            // As text: 64 significant bits are more than many readers of JSON keep in a number.
            writer.WriteString("socket"u8, e.Socket.ToString("x", CultureInfo.InvariantCulture));
        }

        WriteTuple(writer, "tuple"u8, e.Tuple);
        if (e.HasConntrack)
        {
            writer.WriteBoolean("conntrack"u8, true);
        }

        WriteTuple(writer, "original"u8, e.Original);
        WriteTuple(writer, "reply"u8, e.Reply);
        if (e.Flags != 0)
        {
            Span<char> letters = stackalloc char[8];
            var count = 0;
            for (var bit = 0; bit < 8; bit++)
            {
                if (((int)e.Flags >> bit & 1) != 0)
                {
                    letters[count++] = FlagLetters[bit];
                }
            }

            writer.WriteString("flags"u8, letters[..count]);
        }

        WriteNumber(writer, "seq"u8, e.Sequence);
        WriteNumber(writer, "ack"u8, e.Acknowledgment);
        WriteNumber(writer, "length"u8, e.PayloadLength);
        WriteNumber(writer, "icmpType"u8, e.IcmpType);
        WriteNumber(writer, "icmpCode"u8, e.IcmpCode);
        WriteTuple(writer, "quoted"u8, e.Quoted);
        if (e.DropReason is not null)
        {
            writer.WriteString("dropReason"u8, e.DropReason);
        }

        if (e.OldState != 0)
        {
            writer.WriteString("oldState"u8, e.OldState.ToString());
        }

        if (e.NewState != 0)
        {
            writer.WriteString("newState"u8, e.NewState.ToString());
        }

        WriteNumber(writer, "error"u8, e.Error);
        WriteNumber(writer, "childPid"u8, e.ChildPid);
        WriteNumber(writer, "lost"u8, e.Lost);
        if (e.IsBrief)
        {
            writer.WriteBoolean("brief"u8, true);
        }

        WriteNumber(writer, "answer"u8, e.AnswerLength);
        if (e.TraceParent is { } traceParent)
        {
            writer.WriteString("traceParent"u8, traceParent);
        }

        if (!e.Payload.IsEmpty)
        {
            writer.WriteBase64String("payload"u8, e.Payload.Span);
        }

        writer.WriteEndObject();
    }

    /// <summary>Reads events as they are asked for; empty lines are passed over.</summary>
    /// <exception cref="FormatException">A line is no event; the message says which line and what is wrong with it.</exception>
    public static IEnumerable<NetworkEvent> ReadLines(Stream stream)
    {
        ArgumentNullException.ThrowIfNull(stream);
        return Read();

        IEnumerable<NetworkEvent> Read()
        {
            var buffer = new byte[MaxLineLength];
            int start = 0, end = 0, number = 0;
            for (var ended = false; !ended;)
            {
                var length = buffer.AsSpan(start, end - start).IndexOf((byte)'\n');
                if (length < 0)
                {
                    buffer.AsSpan(start, end - start).CopyTo(buffer);
                    (start, end) = (0, end - start);
                    if (end == buffer.Length)
                    {
                        throw new FormatException($"Line {number + 1}: longer than {MaxLineLength} bytes; no event is.");
                    }

                    var read = stream.Read(buffer.AsSpan(end));
                    end += read;
                    if (read > 0)
                    {
                        continue;
                    }

                    ended = true;
                    length = end;
                }

                number++;
                var line = start;
                start = Math.Min(end, start + length + 1);
                if (IsBlank(buffer.AsSpan(line, length)))
                {
                    continue;
                }

                yield return ReadLine(buffer.AsSpan(line, length), number);
            }
        }
    }

    /// <summary>Reads one line.</summary>
    /// <param name="line">The JSON object, as <see cref="Write"/> writes it.</param>
    /// <param name="number">The line's number, from 1, for the error's message.</param>
    /// <exception cref="FormatException">The line is no event; the message says what is wrong with it.</exception>
    public static NetworkEvent ReadLine(ReadOnlySpan<byte> line, int number)
    {
        try
        {
            return Parse(line);
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or FormatException or OverflowException)
        {
            throw new FormatException(string.Create(CultureInfo.InvariantCulture, $"Line {number}: not an event: {e.Message}"), e);
        }
    }

    private static NetworkEvent Parse(ReadOnlySpan<byte> line)
    {
        var reader = new Utf8JsonReader(line);
        if (!reader.Read() || reader.TokenType != JsonTokenType.StartObject)
        {
            throw new FormatException("a JSON object was expected.");
        }

        var e = new NetworkEvent { Kind = EventKind.None, BootNanoseconds = 0 };
        bool kind = false, time = false;
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            // Kept for the message: the reader moves on.
            var name = reader.ValueSpan;
            if (name.SequenceEqual("kind"u8))
            {
                e = e with { Kind = ReadEnum<EventKind>(ref reader) };
                kind = true;
            }
            else if (name.SequenceEqual("bootNs"u8))
            {
                reader.Read();
                e = e with { BootNanoseconds = reader.GetInt64() };
                time = true;
            }
            else
            {
                e = ReadMember(e, name, ref reader);
            }
        }

        if (reader.TokenType != JsonTokenType.EndObject)
        {
            throw new FormatException("the object does not end.");
        }

        // Throws if anything but white space follows.
        reader.Read();
        return kind && time ? e : throw new FormatException($"it has no \"{(kind ? "bootNs" : "kind")}\".");
    }

    private static NetworkEvent ReadMember(in NetworkEvent e, ReadOnlySpan<byte> name, ref Utf8JsonReader reader)
    {
        reader.Read();
        switch (name.Length)
        {
            case 3 when name.SequenceEqual("pid"u8):
                return e with { Pid = reader.GetInt32() };
            case 3 when name.SequenceEqual("seq"u8):
                return e with { Sequence = reader.GetUInt32() };
            case 3 when name.SequenceEqual("ack"u8):
                return e with { Acknowledgment = reader.GetUInt32() };
            case 4 when name.SequenceEqual("lost"u8):
                return e with { Lost = reader.GetInt64() };
            case 5 when name.SequenceEqual("brief"u8):
                return e with { IsBrief = reader.GetBoolean() };
            case 5 when name.SequenceEqual("netNs"u8):
                return e with { NetNs = reader.GetUInt32() };
            case 5 when name.SequenceEqual("tuple"u8):
                return e with { Tuple = ReadTuple(ref reader) };
            case 5 when name.SequenceEqual("reply"u8):
                return e with { Reply = ReadTuple(ref reader) };
            case 5 when name.SequenceEqual("flags"u8):
                return e with { Flags = ReadFlags(ref reader) };
            case 5 when name.SequenceEqual("error"u8):
                return e with { Error = reader.GetInt32() };
            case 6 when name.SequenceEqual("ifName"u8):
                return e with { Interface = ReadName(ref reader) };
            case 6 when name.SequenceEqual("socket"u8):
                return e with { Socket = ulong.Parse(ReadText(ref reader), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture) };
            case 6 when name.SequenceEqual("length"u8):
                return e with { PayloadLength = reader.GetInt32() };
            case 6 when name.SequenceEqual("answer"u8):
                return e with { AnswerLength = reader.GetInt64() };
            case 6 when name.SequenceEqual("quoted"u8):
                return e with { Quoted = ReadTuple(ref reader) };
            case 7 when name.SequenceEqual("ifIndex"u8):
                return e with { InterfaceIndex = reader.GetInt32() };
            case 7 when name.SequenceEqual("command"u8):
                return e with { Command = ReadName(ref reader) };
            case 7 when name.SequenceEqual("payload"u8):
                return e with { Payload = reader.GetBytesFromBase64() };
            case 8 when name.SequenceEqual("original"u8):
                return e with { Original = ReadTuple(ref reader) };
            case 8 when name.SequenceEqual("cgroupId"u8):
                return e with { CgroupId = reader.GetUInt64() };
            case 8 when name.SequenceEqual("icmpType"u8):
                return e with { IcmpType = reader.GetByte() };
            case 8 when name.SequenceEqual("icmpCode"u8):
                return e with { IcmpCode = reader.GetByte() };
            case 8 when name.SequenceEqual("oldState"u8):
                return e with { OldState = ReadEnumValue<TcpState>(ref reader) };
            case 8 when name.SequenceEqual("newState"u8):
                return e with { NewState = ReadEnumValue<TcpState>(ref reader) };
            case 8 when name.SequenceEqual("childPid"u8):
                return e with { ChildPid = reader.GetInt32() };
            case 9 when name.SequenceEqual("conntrack"u8):
                return e with { HasConntrack = reader.GetBoolean() };
            case 10 when name.SequenceEqual("dropReason"u8):
                return e with { DropReason = ReadText(ref reader) };
            case 11 when name.SequenceEqual("traceParent"u8):
                return e with { TraceParent = ReadText(ref reader) };
            case 11 when name.SequenceEqual("ifNameBytes"u8):
                return e with { Interface = ShortName.From(Convert.FromHexString(ReadText(ref reader))) };
            case 12 when name.SequenceEqual("commandBytes"u8):
                return e with { Command = ShortName.From(Convert.FromHexString(ReadText(ref reader))) };
            default:
                throw new FormatException(
                    $"the member \"{System.Text.Encoding.UTF8.GetString(name)}\" is not known. If the file comes from a newer TraceProbe, read it with that.");
        }
    }

    private static void WriteNumber(Utf8JsonWriter writer, ReadOnlySpan<byte> name, long value)
    {
        if (value != 0)
        {
            writer.WriteNumber(name, value);
        }
    }

    // The kernel's names are bytes; the few that are no UTF-8 go out in hexadecimal, so that none is altered.
    private static void WriteName(Utf8JsonWriter writer, ReadOnlySpan<byte> member, ReadOnlySpan<byte> bytesMember, ShortName name)
    {
        if (name.IsEmpty)
        {
            return;
        }

        ReadOnlySpan<byte> bytes = name;
        var end = bytes.IndexOf((byte)0);
        bytes = end < 0 ? bytes : bytes[..end];
        if (Utf8.IsValid(bytes))
        {
            writer.WriteString(member, bytes);
        }
        else
        {
            writer.WriteString(bytesMember, Convert.ToHexString(bytes));
        }
    }

    private static ShortName ReadName(ref Utf8JsonReader reader) => ShortName.From(ReadText(ref reader));

    private static void WriteTuple(Utf8JsonWriter writer, ReadOnlySpan<byte> member, in FiveTuple tuple)
    {
        if (tuple != default)
        {
            var protocol = tuple.Protocol switch
            {
                IpProtocol.None => "none",
                IpProtocol.Icmp => "icmp",
                IpProtocol.Tcp => "tcp",
                IpProtocol.Udp => "udp",
                IpProtocol.IcmpV6 => "icmpv6",
                IpProtocol.Sctp => "sctp",
                var other => ((byte)other).ToString(CultureInfo.InvariantCulture),
            };
            writer.WriteString(member, $"{protocol} {tuple.Source} > {tuple.Destination}");
        }
    }

    private static FiveTuple ReadTuple(ref Utf8JsonReader reader)
    {
        var text = ReadText(ref reader);
        var parts = text.Split(' ');
        if (parts is not [var name, var source, ">", var destination])
        {
            throw new FormatException($"'{text}' is no tuple such as 'tcp 10.0.0.1:33904 > 10.96.0.11:80'.");
        }

        var protocol = name switch
        {
            "none" => IpProtocol.None,
            "icmp" => IpProtocol.Icmp,
            "tcp" => IpProtocol.Tcp,
            "udp" => IpProtocol.Udp,
            "icmpv6" => IpProtocol.IcmpV6,
            "sctp" => IpProtocol.Sctp,
            _ => byte.TryParse(name, NumberStyles.None, CultureInfo.InvariantCulture, out var number)
                ? (IpProtocol)number
                : throw new FormatException($"'{name}' is no protocol."),
        };
        return new FiveTuple(protocol, AddressPort.Parse(source), AddressPort.Parse(destination));
    }

    private static TcpFlags ReadFlags(ref Utf8JsonReader reader)
    {
        var text = ReadText(ref reader);
        var flags = TcpFlags.None;
        foreach (var c in text)
        {
            var bit = FlagLetters.IndexOf(c);
            flags |= bit >= 0 ? (TcpFlags)(1 << bit) : throw new FormatException($"'{text}' are no TCP flags; their letters are {FlagLetters}.");
        }

        return flags;
    }

    private static T ReadEnum<T>(ref Utf8JsonReader reader)
        where T : struct, Enum
    {
        reader.Read();
        return ReadEnumValue<T>(ref reader);
    }

    private static T ReadEnumValue<T>(ref Utf8JsonReader reader)
        where T : struct, Enum
    {
        var text = ReadText(ref reader);
        return Enum.TryParse<T>(text, out var value) && Enum.IsDefined(value) ? value : throw new FormatException($"'{text}' is no {typeof(T).Name}.");
    }

    private static string ReadText(ref Utf8JsonReader reader)
        => reader.TokenType == JsonTokenType.String ? reader.GetString()! : throw new FormatException("a text was expected.");

    private static bool IsBlank(ReadOnlySpan<byte> line) => line.Trim(" \t\r"u8).IsEmpty;
}
