using BenchmarkDotNet.Attributes;
using TraceProbe.Core.Dns;

namespace TraceProbe.Benchmarks;

/// <summary>Nanoseconds and bytes allocated per DNS message, as spans and as the record that a journey keeps.</summary>
[MemoryDiagnoser]
public class DnsReading
{
    // www.example.test: two aliases, an address of each family, every name compressed, EDNS.
    private readonly byte[] _message = Convert.FromHexString(
        "12348580000100040000000103777777076578616d706c6504746573740000010001c00c000500010000003c00060363646ec010c02e000500010000003c000a"
        + "0465646765026575c010c040000100010000001e0004c0000201c040001c00010000001e001020010db800000000000000000000000100002904d0000000000000");

    private readonly byte[] _query = new byte[DnsQuery.MaxLength];

    [Benchmark]
    public int Reader()
    {
        if (!DnsReader.TryCreate(_message, out var reader))
        {
            return 0;
        }

        var addresses = 0;
        while (reader.TryReadRecord(out var record))
        {
            addresses += record.TryGetAddress(out _) ? 1 : 0;
        }

        return addresses;
    }

    [Benchmark]
    public DnsMessage Message() => DnsMessage.TryRead(_message, out var message) ? message : throw new InvalidOperationException("Not read.");

    [Benchmark]
    public int Query() => DnsQuery.TryWrite(_query, 1, "my-nginx.default.svc.cluster.local", DnsRecordType.AAAA, out var written, ednsPayloadSize: 1232) ? written : 0;
}
