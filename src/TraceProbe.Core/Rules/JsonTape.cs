using System.Buffers.Text;
using System.Collections;
using System.Diagnostics.CodeAnalysis;
using System.Text;
using System.Text.Json;

namespace TraceProbe.Core.Rules;

/// <summary>
/// One JSON value at a time, laid out as a list of tokens over the text it stands in, and overwritten by the next. A dump of tens of thousands of rules is
/// read so without a tree of objects for any of them.
/// </summary>
internal sealed class JsonTape(byte[] text)
{
    private readonly byte[] _text = text;
    private readonly Dictionary<string, string> _names = new(NameComparer.Instance);
    private readonly string?[] _recent = new string?[512];
    private Token[] _tokens = new Token[256];
    private int _count;

    private struct Token
    {
        public JsonTokenType Type;
        public bool IsEscaped;
        public int NameStart;
        public int NameLength;
        public int Start;
        public int Length;
        public int End;
    }

    /// <summary>Takes the value that the reader, which reads the same text, stands at; the reader then stands at its end.</summary>
    /// <exception cref="JsonException">The text is no JSON.</exception>
    public Value Take(ref Utf8JsonReader reader)
    {
        _count = 0;
        Span<int> open = stackalloc int[reader.CurrentState.Options.MaxDepth + 1];
        var depth = 0;
        int nameStart = 0, nameLength = 0;
        do
        {
            switch (reader.TokenType)
            {
                case JsonTokenType.PropertyName:
                    nameStart = (int)reader.TokenStartIndex + 1;
                    nameLength = reader.ValueSpan.Length;
                    break;
                case JsonTokenType.EndObject or JsonTokenType.EndArray:
                    ref var opened = ref _tokens[open[--depth]];
                    opened.End = _count;
                    opened.Length = (int)reader.BytesConsumed - opened.Start;
                    break;
                default:
                    if (_count == _tokens.Length)
                    {
                        Array.Resize(ref _tokens, _count * 2);
                    }

                    _tokens[_count] = new Token
                    {
                        Type = reader.TokenType,
                        IsEscaped = reader.ValueIsEscaped,
                        NameStart = nameStart,
                        NameLength = nameLength,
                        Start = (int)reader.TokenStartIndex + (reader.TokenType == JsonTokenType.String ? 1 : 0),
                        Length = reader.ValueSpan.Length,
                        End = _count + 1,
                    };
                    nameLength = 0;
                    if (reader.TokenType is JsonTokenType.StartObject or JsonTokenType.StartArray)
                    {
                        open[depth++] = _count;
                    }

                    _count++;
                    break;
            }
        }
        while (depth > 0 && reader.Read());

        return new Value(this, 0);
    }

    // The same few words come again and again, and each chain's name several times.
    private string NameOf(ReadOnlySpan<byte> utf8)
    {
        if (utf8.IsEmpty)
        {
            return "";
        }

        ref var recent = ref _recent[(utf8.Length * 31 + utf8[0] * 7 + utf8[^1]) % _recent.Length];
        if (recent is not null && Ascii.Equals(utf8, recent))
        {
            return recent;
        }

        var names = _names.GetAlternateLookup<ReadOnlySpan<byte>>();
        if (!names.TryGetValue(utf8, out var name))
        {
            name = Encoding.UTF8.GetString(utf8);
            _names.Add(name, name);
        }

        return recent = name;
    }

    /// <summary>A value on the tape; the default one is no value at all.</summary>
    public readonly struct Value(JsonTape tape, int at) : IEnumerable<Value>
    {
        private readonly JsonTape? _tape = tape;
        private readonly int _at = at;

        private ref readonly Token Token => ref _tape!._tokens[_at];

        /// <summary>Whether there is a value.</summary>
        public bool Exists => _tape is not null;

        /// <summary>Whether it is an object.</summary>
        public bool IsObject => Is(JsonTokenType.StartObject);

        /// <summary>Whether it is an array.</summary>
        public bool IsArray => Is(JsonTokenType.StartArray);

        /// <summary>Whether it is a string.</summary>
        public bool IsString => Is(JsonTokenType.String);

        /// <summary>Whether it is <c>true</c>.</summary>
        public bool IsTrue => Is(JsonTokenType.True);

        /// <summary>Whether it is <c>false</c>.</summary>
        public bool IsFalse => Is(JsonTokenType.False);

        /// <summary>The name it has in the object around it; empty when it is in none.</summary>
        public string Name => _tape is null ? "" : _tape.NameOf(NameUtf8);

        /// <summary>The text of a string or number, or the JSON of anything else; empty when there is no value.</summary>
        public string Text => _tape is null ? "" : Token.IsEscaped ? Unescaped() : IsObject || IsArray ? Json : _tape.NameOf(Utf8);

        /// <summary>The JSON it was read from.</summary>
        public string Json => _tape is null ? "" : Encoding.UTF8.GetString(IsString ? _tape._text.AsSpan(Token.Start - 1, Token.Length + 2) : Utf8);

        private ReadOnlySpan<byte> NameUtf8 => _tape!._text.AsSpan(Token.NameStart, Token.NameLength);

        private ReadOnlySpan<byte> Utf8 => _tape!._text.AsSpan(Token.Start, Token.Length);

        /// <summary>The property of that name; no value when it is not there or this is no object.</summary>
        public Value this[ReadOnlySpan<byte> name]
        {
            get
            {
                if (IsObject)
                {
                    foreach (var child in this)
                    {
                        if (child.NameUtf8.SequenceEqual(name))
                        {
                            return child;
                        }
                    }
                }

                return default;
            }
        }

        /// <summary>The first value in an object or array; no value when there is none.</summary>
        public Value First => _tape is not null && Token.End > _at + 1 ? new Value(_tape, _at + 1) : default;

        /// <summary>How many values an array or object holds.</summary>
        public int Count
        {
            get
            {
                var count = 0;
                foreach (var _ in this)
                {
                    count++;
                }

                return count;
            }
        }

        /// <summary>Whether it is this string.</summary>
        public bool Is(ReadOnlySpan<byte> text) => IsString && Utf8.SequenceEqual(text);

        /// <summary>Whether it is this string.</summary>
        public bool Is(string text) => IsString && !Token.IsEscaped && Ascii.Equals(Utf8, text) || IsString && Text == text;

        /// <summary>As <see cref="Text"/>, without making a string of it where it fits.</summary>
        public ReadOnlySpan<char> Chars(Span<char> scratch)
            => _tape is not null && !Token.IsEscaped && Token.Length <= scratch.Length ? scratch[..Encoding.UTF8.GetChars(Utf8, scratch)] : Text;

        /// <summary>The whole number it is, 0 or more.</summary>
        public bool TryNumber(out long number)
        {
            number = 0;
            return Is(JsonTokenType.Number) && Utf8Parser.TryParse(Utf8, out number, out var used) && used == Token.Length && number >= 0;
        }

        /// <summary>The values in an object or array.</summary>
        public Enumerator GetEnumerator() => new(this);

        IEnumerator<Value> IEnumerable<Value>.GetEnumerator() => GetEnumerator();

        IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();

        private bool Is(JsonTokenType type) => _tape is not null && Token.Type == type;

        private string Unescaped()
        {
            var reader = new Utf8JsonReader(_tape!._text.AsSpan(Token.Start - 1, Token.Length + 2));
            reader.Read();
            try
            {
                return reader.GetString()!;
            }
            catch (InvalidOperationException e)
            {
                throw new FormatException($"the JSON string {Encoding.UTF8.GetString(Utf8)} is no text", e);
            }
        }

        /// <summary>Goes through the values in an object or array.</summary>
        public struct Enumerator(Value parent) : IEnumerator<Value>
        {
            private int _next = parent._at + 1;
            private int _current;

            /// <inheritdoc/>
            public readonly Value Current => new(parent._tape!, _current);

            readonly object IEnumerator.Current => Current;

            /// <inheritdoc/>
            public bool MoveNext()
            {
                if (parent._tape is not { } tape || !(parent.IsObject || parent.IsArray) || _next >= tape._tokens[parent._at].End)
                {
                    return false;
                }

                _current = _next;
                _next = tape._tokens[_current].End;
                return true;
            }

            /// <inheritdoc/>
            public readonly void Reset() => throw new NotSupportedException();

            /// <inheritdoc/>
            public readonly void Dispose()
            {
            }
        }
    }

    // Strings found by their UTF-8.
    private sealed class NameComparer : IEqualityComparer<string>, IAlternateEqualityComparer<ReadOnlySpan<byte>, string>
    {
        public static readonly NameComparer Instance = new();

        public bool Equals(string? x, string? y) => string.Equals(x, y, StringComparison.Ordinal);

        public int GetHashCode([DisallowNull] string obj)
        {
            Span<byte> utf8 = obj.Length <= 256 ? stackalloc byte[768] : new byte[obj.Length * 3];
            return GetHashCode(utf8[..Encoding.UTF8.GetBytes(obj, utf8)]);
        }

        public bool Equals(ReadOnlySpan<byte> alternate, string other)
            => alternate.Length == other.Length ? Ascii.Equals(alternate, other) || Encoding.UTF8.GetString(alternate) == other
                : alternate.Length > other.Length && Encoding.UTF8.GetString(alternate) == other;

        public string Create(ReadOnlySpan<byte> alternate) => Encoding.UTF8.GetString(alternate);

        public int GetHashCode(ReadOnlySpan<byte> alternate)
        {
            var hash = default(HashCode);
            hash.AddBytes(alternate);
            return hash.ToHashCode();
        }
    }
}
