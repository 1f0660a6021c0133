namespace TraceProbe.Cluster.Api;

/// <summary>
/// Finds where an object of the API ends in a stream of them, and leaves out its <c>metadata.managedFields</c>: who wrote which field, which
/// is half of what a server sends and nothing that is read here. Only strings and brackets are looked at, which takes a tenth of the time
/// that a JSON reader needs for the same text; whether the rest is JSON is for the reader to say, to which it goes.
/// </summary>
internal static class ObjectText
{
    private const byte Quote = (byte)'"';

    /// <summary>How long the value is that the text begins with; negative when not all of it is there.</summary>
    /// <param name="text">The text, from an opening bracket on.</param>
    /// <param name="depth">How deep the object lies in the value: 1 when it is the value itself.</param>
    /// <param name="unread">Where its managed fields are, with the comma that parts them from the others; empty when there are none.</param>
    public static int LengthOf(ReadOnlySpan<byte> text, int depth, out Range unread)
    {
        unread = default;
        var (at, level, inMetadata, from) = (0, 0, false, -1);
        while (at < text.Length)
        {
            switch (text[at++])
            {
                case Quote:
                    var start = at - 1;
                    if (!EndString(text, ref at))
                    {
                        return -1;
                    }

                    if (level == depth)
                    {
                        inMetadata = text[start..at].SequenceEqual("\"metadata\""u8);
                    }
                    else if (level == depth + 1 && inMetadata && from < 0 && text[start..at].SequenceEqual("\"managedFields\""u8) && text[at..].StartsWith(":["u8))
                    {
                        from = start;
                    }

                    break;
                case (byte)'{' or (byte)'[':
                    level++;
                    break;
                case (byte)'}' or (byte)']':
                    level--;
                    if (level == depth + 1 && from >= 0 && unread.Equals(default))
                    {
                        unread = WithComma(text, from, at);
                    }

                    if (level == 0)
                    {
                        return at;
                    }

                    break;
            }
        }

        return -1;
    }

    /// <summary>The text without a part of it: what is before that is moved up to what is behind.</summary>
    /// <param name="text">The text, which is changed.</param>
    /// <param name="part">What to leave out.</param>
    public static Span<byte> Without(Span<byte> text, Range part)
    {
        var (from, length) = part.GetOffsetAndLength(text.Length);
        text[..from].CopyTo(text[length..]);
        return text[length..];
    }

    private static bool EndString(ReadOnlySpan<byte> text, ref int at)
    {
        while (true)
        {
            var next = text[at..].IndexOfAny(Quote, (byte)'\\');
            if (next < 0)
            {
                return false;
            }

            at += next + 1;
            if (text[at - 1] == Quote)
            {
                return true;
            }

            // What is escaped, if it is there, is not the end.
            if (at++ >= text.Length)
            {
                return false;
            }
        }
    }

    // {"name":"a","managedFields":[…],"uid":"b"}: the comma behind goes with it, or that before when it is the last.
    private static Range WithComma(ReadOnlySpan<byte> text, int from, int end)
        => end < text.Length && text[end] == (byte)',' ? from..(end + 1) : from > 0 && text[from - 1] == (byte)',' ? (from - 1)..end : from..end;
}
