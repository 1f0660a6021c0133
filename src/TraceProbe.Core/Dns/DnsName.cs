using System.Globalization;

namespace TraceProbe.Core.Dns;

/// <summary>
/// A domain name where it stands in a message, still encoded: only names that were walked to their end and found sound exist.
/// Text is made when asked for. RFC 1035 sections 3.1 and 4.1.4.
/// </summary>
public readonly ref struct DnsName
{
    /// <summary>The most bytes a label may have (RFC 1035 section 2.3.4).</summary>
    public const int MaxLabelLength = 63;

    /// <summary>The most bytes an encoded name may have, the ending root label included (RFC 1035 section 2.3.4).</summary>
    public const int MaxEncodedLength = 255;

    /// <summary>The most characters a name may have as text: every byte of it written as <c>\DDD</c>.</summary>
    public const int MaxTextLength = MaxEncodedLength * 4;

    // A pointer may lead to another pointer. Writers make one or two hops; a chain of thousands, legal as each leads backwards,
    // would let a 64 KB message cost as much as a gigabyte.
    private const int MaxPointers = 64;

    private readonly ReadOnlySpan<byte> _message;
    private readonly int _offset;

    private DnsName(ReadOnlySpan<byte> message, int offset)
    {
        _message = message;
        _offset = offset;
    }

    /// <summary>Whether this is the root, written <c>.</c>; also true of <c>default</c>.</summary>
    public bool IsRoot => _message.IsEmpty || FirstLabel == 0;

    private byte FirstLabel
    {
        get
        {
            var labels = new Labels(this);
            return labels.MoveNext() ? (byte)labels.Current.Length : (byte)0;
        }
    }

    /// <summary>Walks the name at <paramref name="offset"/>; <paramref name="next"/> is where the bytes after it begin.</summary>
    internal static DnsReadState TryRead(ReadOnlySpan<byte> message, int offset, out DnsName name, out int next)
    {
        name = default;
        next = 0;
        var position = offset;
        var run = offset;
        var encoded = 1;
        var pointers = 0;
        while (true)
        {
            // A pointer leads to bytes that stand before it, so running off the end behind one is no matter of a cut message.
            var cut = pointers == 0 ? DnsReadState.Cut : DnsReadState.Malformed;
            if ((uint)position >= (uint)message.Length)
            {
                return cut;
            }

            var head = message[position];
            if (head == 0)
            {
                next = pointers == 0 ? position + 1 : next;
                name = new DnsName(message, offset);
                return DnsReadState.Whole;
            }

            if (head <= MaxLabelLength)
            {
                encoded += head + 1;
                position += head + 1;
                if (encoded > MaxEncodedLength)
                {
                    return DnsReadState.Malformed;
                }

                continue;
            }

            // 0x40 and 0x80 were extended label types, withdrawn by RFC 6891 section 5.
            if (head < 0xc0)
            {
                return DnsReadState.Malformed;
            }

            if (position + 1 >= message.Length)
            {
                return cut;
            }

            // "A prior occurrence": each hop must go before the run of labels it ends, so hops cannot loop; and no name
            // stands in the header.
            var target = ((head & 0x3f) << 8) | message[position + 1];
            if (target >= run || target < DnsReader.HeaderLength || pointers == MaxPointers)
            {
                return DnsReadState.Malformed;
            }

            next = pointers == 0 ? position + 2 : next;
            pointers++;
            run = position = target;
        }
    }

    /// <summary>
    /// Writes the name as text: lower case, no dot at the end (the root is <c>.</c>), dots and backslashes within labels escaped by
    /// a backslash, and bytes that do not print as <c>\DDD</c> (RFC 4343 section 2.1).
    /// </summary>
    /// <param name="destination">Where to; <see cref="MaxTextLength"/> characters always suffice.</param>
    /// <param name="written">The characters written; 0 if the destination was too short.</param>
    /// <returns>Whether the destination was long enough.</returns>
    public bool TryFormat(Span<char> destination, out int written)
    {
        written = 0;
        var position = 0;
        var labels = new Labels(this);
        while (labels.MoveNext())
        {
            if (position > 0 && !Put(destination, ref position, '.'))
            {
                return false;
            }

            foreach (var b in labels.Current)
            {
                var whole = b switch
                {
                    (byte)'.' or (byte)'\\' => Put(destination, ref position, '\\') && Put(destination, ref position, (char)b),
                    >= (byte)'A' and <= (byte)'Z' => Put(destination, ref position, (char)(b | 0x20)),
                    > 0x20 and < 0x7f => Put(destination, ref position, (char)b),
                    _ => Put(destination, ref position, '\\') && Put(destination, ref position, (char)('0' + b / 100))
                        && Put(destination, ref position, (char)('0' + b / 10 % 10)) && Put(destination, ref position, (char)('0' + b % 10)),
                };
                if (!whole)
                {
                    return false;
                }
            }
        }

        if (position == 0 && !Put(destination, ref position, '.'))
        {
            return false;
        }

        written = position;
        return true;
    }

    /// <summary>The name as text, as <see cref="TryFormat"/> writes it.</summary>
    public override string ToString()
    {
        Span<char> text = stackalloc char[MaxTextLength];
        return TryFormat(text, out var written) ? new string(text[..written]) : throw new InvalidOperationException("A name that was walked has a bounded length.");
    }

    /// <summary>Encodes a name given as text, a dot at its end or not, escapes understood as <see cref="TryFormat"/> writes them.</summary>
    /// <param name="text">ASCII text; the empty text and <c>.</c> are the root. Case is kept.</param>
    /// <param name="destination">Where to; <see cref="MaxEncodedLength"/> bytes always suffice.</param>
    /// <param name="written">The bytes written.</param>
    /// <returns>False if a label is empty or too long, the name is too long, an escape is broken, a character is not ASCII, or the destination too short.</returns>
    public static bool TryEncode(ReadOnlySpan<char> text, Span<byte> destination, out int written)
    {
        written = 0;
        Span<byte> encoded = stackalloc byte[MaxEncodedLength];
        var label = 0;
        var position = 1;
        if (text is not "." and not "")
        {
            for (var i = 0; i < text.Length; i++)
            {
                var c = text[i];
                if (c == '.')
                {
                    var length = position - label - 1;
                    if (length is 0 or > MaxLabelLength || position >= MaxEncodedLength)
                    {
                        return false;
                    }

                    encoded[label] = (byte)length;
                    label = position++;
                    continue;
                }

                if (c == '\\')
                {
                    if (++i >= text.Length)
                    {
                        return false;
                    }

                    c = text[i];
                    if (char.IsAsciiDigit(c))
                    {
                        if (i + 2 >= text.Length || !byte.TryParse(text.Slice(i, 3), NumberStyles.None, CultureInfo.InvariantCulture, out var value))
                        {
                            return false;
                        }

                        c = (char)value;
                        i += 2;
                    }
                    else if (c > 0x7f)
                    {
                        return false;
                    }
                }
                else if (c > 0x7f)
                {
                    return false;
                }

                // One byte stays free for the root label.
                if (position >= MaxEncodedLength - 1)
                {
                    return false;
                }

                encoded[position++] = (byte)c;
            }

            var last = position - label - 1;
            if (last > MaxLabelLength)
            {
                return false;
            }

            if (last > 0)
            {
                encoded[label] = (byte)last;
                label = position++;
            }
        }

        encoded[label] = 0;
        if (!encoded[..position].TryCopyTo(destination))
        {
            return false;
        }

        written = position;
        return true;
    }

    private static bool Put(Span<char> destination, ref int position, char c)
    {
        if ((uint)position >= (uint)destination.Length)
        {
            return false;
        }

        destination[position++] = c;
        return true;
    }

    /// <summary>Steps through the labels of a name that was walked before, so no check can fail again.</summary>
    private ref struct Labels(DnsName name)
    {
        private readonly ReadOnlySpan<byte> _message = name._message;
        private int _position = name._offset;

        public ReadOnlySpan<byte> Current { get; private set; }

        public bool MoveNext()
        {
            while ((uint)_position < (uint)_message.Length)
            {
                int head = _message[_position];
                if (head >= 0xc0)
                {
                    _position = ((head & 0x3f) << 8) | _message[_position + 1];
                    continue;
                }

                Current = _message.Slice(_position + 1, head);
                _position += head + 1;
                return head > 0;
            }

            return false;
        }
    }
}
