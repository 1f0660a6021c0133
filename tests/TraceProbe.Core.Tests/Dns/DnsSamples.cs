using TraceProbe.Core.Dns;

namespace TraceProbe.Core.Tests.Dns;

/// <summary>Named messages; each is also the seed of the mutations.</summary>
internal static class DnsSamples
{
    public static readonly IReadOnlyDictionary<string, byte[]> All = new Dictionary<string, byte[]>
    {
        // What a provider's resolver answered for a cluster name: a wrong address, and a name server beside it.
        ["ProviderAnswer"] = Hex("""
            584d 8180 0001 0001 0001 0001 086d 792d
            6e67 696e 7807 6465 6661 756c 7407 636c
            7573 7465 7205 6c6f 6361 6c00 0001 0001
            c00c 0001 0001 0000 0005 0004 ac1e 0001
            0000 0200 0100 0000 0500 0c03 6e73 3102
            6b61 036c 7476 00c0 4b00 0100 0100 0000
            0500 04ac 1b01 01
            """),

        // www.example.test: two aliases, then an address of each family, every name compressed, EDNS.
        ["CnameChain"] = Hex("""
            1234 8580 0001 0004 0000 0001
            03777777 07 6578616d706c65 04 74657374 00 0001 0001
            c00c 0005 0001 0000003c 0006 0363646e c010
            c02e 0005 0001 0000003c 000a 0465646765 026575 c010
            c040 0001 0001 0000001e 0004 c0000201
            c040 001c 0001 0000001e 0010 20010db8000000000000000000000001
            00 0029 04d0 00000000 0000
            """),

        // no.svc.cluster.local is not there: the zone's SOA, and EDNS with a cookie.
        ["NameNotThere"] = Hex("""
            beef 8583 0001 0000 0001 0001
            026e6f 03737663 07636c7573746572 056c6f63616c 00 001c 0001
            c013 0006 0001 0000003c 002a 026e73 03646e73 c013 0a686f73746d6173746572 c013
                 77359400 00001c20 00000708 00015180 0000001e
            00 0029 04d0 00000000 000c 000a 0008 0102030405060708
            """),

        // The named port of a headless Service.
        ["ServiceRecords"] = Hex("""
            0001 8580 0001 0002 0000 0001
            055f68747470 045f746370 03776562 00 0021 0001
            c00c 0021 0001 0000001e 000e 0000 0032 1f90 05706f642d61 c017
            c00c 0021 0001 0000001e 000e 0001 0032 1f90 05706f642d62 c017
            c032 0001 0001 0000001e 0004 0a0a0102
            """),

        // An error that repeats no question and needs the code's extended bits (BADVERS).
        ["ExtendedCode"] = Hex("0007 8000 0000 0000 0000 0001 00 0029 1000 01 000000 0000"),

        ["Query"] = DnsQuery.Create(0x1234, "my-nginx.default.svc.cluster.local", DnsRecordType.AAAA, ednsPayloadSize: 1232),
    };

    public static TheoryData<string> Names => [.. All.Keys];

    public static byte[] Hex(string text) => Convert.FromHexString(string.Concat(text.Where(char.IsAsciiHexDigit)));
}
