using System.Runtime.InteropServices;
using System.Text;
using TraceProbe.Capture.Bpf;
using TraceProbe.Capture.Packets;
using TraceProbe.Core.Events;
using TraceProbe.Core.Net;

namespace TraceProbe.Capture.Tests.Bpf;

/// <summary>The ring's reader, over memory laid out as the kernel lays it.</summary>
public sealed unsafe class BpfRingBufferTests : IDisposable
{
    private const uint Size = 4096;
    private const uint Busy = 1u << 31;
    private const uint Discarded = 1u << 30;

    private readonly byte* _memory = (byte*)NativeMemory.AllocZeroed(16 + (2 * Size));
    private readonly RingBuffer _ring;
    private bool _stop;

    public BpfRingBufferTests() => _ring = new RingBuffer(_memory, _memory + 8, _memory + 16, Size);

    public void Dispose() => NativeMemory.Free(_memory);

    private ref ulong Consumer => ref *(ulong*)_memory;

    private ref ulong Producer => ref *(ulong*)(_memory + 8);

    /// <summary>Writes a record as the kernel would, into both of the mapping's halves.</summary>
    private uint* Write(ReadOnlySpan<byte> bytes, uint flags = 0)
    {
        var at = (uint)(Producer & (Size - 1));
        Put(at, BitConverter.GetBytes((ulong)((uint)bytes.Length | flags)));
        Put(at + 8, bytes);
        Producer += (ulong)((bytes.Length + 8 + 7) & ~7);
        return (uint*)(_memory + 16 + at);
    }

    private void Put(uint at, ReadOnlySpan<byte> bytes)
    {
        for (var i = 0u; i < bytes.Length; i++)
        {
            var place = (at + i) & (Size - 1);
            _memory[16 + place] = _memory[16 + Size + place] = bytes[(int)i];
        }
    }

    private List<byte[]> Read()
    {
        var records = new List<byte[]>();
        var count = _ring.Read(record => records.Add(record.ToArray()), in _stop);
        count.ShouldBe(records.Count);
        return records;
    }

    [Fact]
    public void Records_ComeInOrder_AndMakeRoom()
    {
        Write([1, 2, 3]);
        Write([4]);
        Read().ShouldBe([[1, 2, 3], [4]]);
        Consumer.ShouldBe(Producer);
        Read().ShouldBeEmpty();
    }

    [Fact]
    public void BusyRecord_HoldsUpThoseBehindIt()
    {
        Write([1]);
        var header = Write([2], Busy);
        Write([3]);
        Read().ShouldBe([[1]]);
        *header &= ~Busy;
        Read().ShouldBe([[2], [3]]);
    }

    [Fact]
    public void DiscardedRecord_IsSkipped()
    {
        Write([1], Discarded);
        Write([2]);
        Read().ShouldBe([[2]]);
        Consumer.ShouldBe(Producer);
    }

    [Fact]
    public void RecordAcrossTheEnd_IsInOnePiece()
    {
        var big = new byte[1000];
        for (var i = 0; i < 20; i++)
        {
            Array.Fill(big, (byte)i);
            Write(big);
            Read().ShouldHaveSingleItem().ShouldBe(big);
        }
    }

    [Fact]
    public void HandlerThatThrows_DoesNotGetTheRecordAgain()
    {
        Write([1]);
        Write([2]);
        Should.Throw<InvalidDataException>(() => _ring.Read(_ => throw new InvalidDataException(), in _stop));
        Read().ShouldBe([[2]]);
    }

    [Fact]
    public void Stop_LeavesTheRest()
    {
        Write([1]);
        Write([2]);
        _ring.Read(_ => _stop = true, in _stop).ShouldBe(1);
        _stop = false;
        Read().ShouldBe([[2]]);
    }

    [Fact]
    public void EventWithoutPayload_AllocatesNothing()
    {
        var raw = new TpEvent
        {
            boot_ns = 42,
            kind = (byte)EventKind.PacketDropped,
            flags = TpEventFlags.HasConntrack | TpEventFlags.HasDropReason | TpEventFlags.HasQuoted,
            drop_reason = 70_000,
            pid = 7,
        };
        raw.tuple.protocol = (byte)IpProtocol.Tcp;
        raw.tuple.destination_port = 0x5000;
        var types = KernelTypes.Current;
        long sum = 0;
        NetworkEventHandler handler = (in NetworkEvent e) => sum += e.BootNanoseconds + e.Tuple.Destination.Port;
        RecordHandler onRecord = record =>
        {
            if (EventReader.TryRead(record, types, out var e))
            {
                handler(in e);
            }
        };

        void Round()
        {
            for (var i = 0; i < 8; i++)
            {
                Write(MemoryMarshal.AsBytes(new ReadOnlySpan<TpEvent>(in raw)));
            }

            _ring.Read(onRecord, in _stop);
        }

        // The writer of the test allocates; so measure the reading alone.
        Round();
        long allocated = 0;
        for (var i = 0; i < 100; i++)
        {
            for (var j = 0; j < 8; j++)
            {
                Write(MemoryMarshal.AsBytes(new ReadOnlySpan<TpEvent>(in raw)));
            }

            var before = GC.GetAllocatedBytesForCurrentThread();
            _ring.Read(onRecord, in _stop);
            allocated += GC.GetAllocatedBytesForCurrentThread() - before;
        }

        allocated.ShouldBe(0);
        sum.ShouldBe(808 * (42 + 80));
    }

    [Fact]
    public void RecordThatIsCutOff_IsRefused()
    {
        var bytes = new byte[EventReader.HeaderSize + 4];
        MemoryMarshal.AsRef<TpEvent>(bytes.AsSpan()).captured = 5;
        MemoryMarshal.AsRef<TpEvent>(bytes.AsSpan()).kind = (byte)EventKind.PacketQueued;
        EventReader.TryRead(bytes, null, out _).ShouldBeFalse();
        for (var length = 0; length < EventReader.HeaderSize; length++)
        {
            EventReader.TryRead(bytes.AsSpan(0, length), null, out _).ShouldBeFalse();
        }

        MemoryMarshal.AsRef<TpEvent>(bytes.AsSpan()).captured = 4;
        EventReader.TryRead(bytes, null, out var e).ShouldBeTrue();
        e.Payload.Length.ShouldBe(4);
    }

    [Theory]
    [InlineData("GET /a?token=b HTTP/1.1\r\nhost: x\r\n", "GET /a?token=b HTTP/1.1")]
    [InlineData("HTTP/1.1 503 Service Unavailable\r\nset-cookie: secret\r\n", "HTTP/1.1 503 Service Unavailable")]
    [InlineData("HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n", "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server")]
    [InlineData("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "PRI * HTTP/2.0")]
    [InlineData("password=secret\r\n", "")]
    [InlineData("USER secret\r\n", "")]
    [InlineData("", "")]
    [InlineData("\r\n", "")]
    [InlineData("GET /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "GET /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")]
    public void TcpPayload_KeepsHttpsFirstLineOnly(string payload, string kept)
        => Encoding.ASCII.GetString(EventReader.FirstLine(Encoding.ASCII.GetBytes(payload))).ShouldBe(kept);

    [Theory]
    [InlineData("HTTP/1.1 200 OK\r\nContent-Length: 615\r\n\r\n<html>", 40 + 615)]
    [InlineData("HTTP/1.1 200 OK\r\ncontent-length:615\r\nSet-Cookie: secr", 39 + 615)]
    [InlineData("HTTP/1.1 206 Partial Content\r\nContent-Length: 0\r\n\r\n", 0)]
    [InlineData("HTTP/1.1 304 Not Modified\r\nContent-Length: 615\r\n\r\n", 0)]
    [InlineData("HTTP/1.1 200 OK\r\nContent-Length: 61", 0)]
    [InlineData("HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", 0)]
    [InlineData("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n", 0)]
    [InlineData("HTTP/1.1 200 OK\r\n\r\nContent-Length: 615\r\n", 0)]
    [InlineData("HTTP/1.1", 0)]
    public void Answer_TellsItsLength_WhereItsFirstBytesSayIt(string payload, long length)
        => AnswerHead.LengthOf(Encoding.ASCII.GetBytes(payload)).ShouldBe(length);

    [Theory]
    [InlineData("GET / HTTP/1.1\r\nHost: web\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]
    [InlineData("POST /x HTTP/1.0\r\nTraceParent:00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00\r\nX", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00")]
    [InlineData("GET / HTTP/1.1\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0", null)]
    [InlineData("GET / HTTP/1.1\r\ntraceparent: 00-00000000000000000000000000000000-00f067aa0ba902b7-01\r\n\r\n", null)]
    [InlineData("GET / HTTP/1.1\r\ntraceparent: hello\r\n\r\n", null)]
    [InlineData("GET / HTTP/1.1\r\n\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n", null)]
    [InlineData("HTTP/1.1 200 OK\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n", null)]
    [InlineData("\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n", null)]
    [InlineData("", null)]
    public void Request_TellsTheTraceThatItIsPartOf(string payload, string? traceParent)
        => RequestHead.TraceParentOf(Encoding.ASCII.GetBytes(payload)).ShouldBe(traceParent);

    [Fact]
    public void TlsRecord_KeepsItsHeadOnly()
        => EventReader.FirstLine([0x15, 3, 3, 0, 2, 2, 40, 1, 2, 3]).ToArray().ShouldBe([0x15, 3, 3, 0, 2, 2, 40]);
}
