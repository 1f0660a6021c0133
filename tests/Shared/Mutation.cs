namespace TraceProbe.Tests;

/// <summary>Damages a sample the way a fuzzer does: bits, bytes, lengths, pieces cut out, doubled or moved.</summary>
internal static class Mutation
{
    private static readonly byte[] Interesting = [0, 1, 12, 63, 64, 127, 128, 0xc0, 0xc1, 0xff];

    public static byte[] Of(byte[] sample, Random random)
    {
        var bytes = sample.ToArray();
        for (var times = random.Next(1, 5); times > 0 && bytes.Length > 0; times--)
        {
            var at = random.Next(bytes.Length);
            switch (random.Next(7))
            {
                case 0:
                    bytes[at] ^= (byte)(1 << random.Next(8));
                    break;
                case 1:
                    bytes[at] = (byte)random.Next(256);
                    break;
                case 2:
                    bytes[at] = Interesting[random.Next(Interesting.Length)];
                    break;
                case 3:
                    Array.Resize(ref bytes, at);
                    break;
                case 4:
                    var end = random.Next(at, bytes.Length + 1);
                    bytes = [.. bytes.AsSpan(0, end), .. bytes.AsSpan(at)];
                    break;
                case 5:
                    var until = random.Next(at, bytes.Length + 1);
                    bytes = [.. bytes.AsSpan(0, at), .. bytes.AsSpan(until)];
                    break;
                default:
                    // A compression pointer to anywhere.
                    bytes[at] = (byte)(0xc0 | random.Next(2));
                    if (at + 1 < bytes.Length)
                    {
                        bytes[at + 1] = (byte)random.Next(256);
                    }

                    break;
            }
        }

        return bytes;
    }
}
