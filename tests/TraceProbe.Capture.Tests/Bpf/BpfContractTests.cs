using System.Reflection;
using System.Runtime.InteropServices;
using System.Text;
using TraceProbe.Capture.Bpf;
using TraceProbe.Core.Events;

namespace TraceProbe.Capture.Tests.Bpf;

/// <summary>bpf/events.h and its mirror, held together by what the compiler wrote of it into the object.</summary>
public sealed class BpfContractTests
{
    private static readonly byte[] s_object = ReadObject();

    private static byte[] ReadObject()
    {
        using var stream = typeof(KernelObserver).Assembly.GetManifestResourceStream("traceprobe.bpf.o")!;
        var bytes = new byte[stream.Length];
        stream.ReadExactly(bytes);
        return bytes;
    }

    private static Btf Types()
    {
        Btf.TryParseElf(s_object, out var btf).ShouldBeTrue();
        return btf;
    }

    [Theory]
    [InlineData("tp_event", typeof(TpEvent))]
    [InlineData("tp_tuple", typeof(TpTuple))]
    [InlineData("tp_target", typeof(TpTarget))]
    [InlineData("tp_config", typeof(TpConfig))]
    public void Struct_HasTheKernelsLayout(string name, Type mirror)
    {
        var btf = Types();
        var found = Find(btf, BtfKind.Struct, name);
        ((int)found.Size).ShouldBe(Marshal.SizeOf(mirror));

        var fields = mirror.GetFields(BindingFlags.Instance | BindingFlags.Public).ToDictionary(f => f.Name);
        for (var i = 0; i < found.Count; i++)
        {
            var (member, type, offset) = found.Member(i);
            if (member.StartsWith("reserved", StringComparison.Ordinal))
            {
                continue;
            }

            fields.Remove(member, out var field).ShouldBeTrue($"{name}.{member} has no mirror");
            (offset / 8).ShouldBe((uint)Marshal.OffsetOf(mirror, member), $"offset of {name}.{member}");
            SizeOf(btf, type).ShouldBe(SizeOf(field!.FieldType), $"size of {name}.{member}");
        }

        fields.ShouldBeEmpty($"{name} lacks what its mirror has");
    }

    [Fact]
    public void EventKind_HasTheKernelsNumbers()
    {
        var kinds = Find(Types(), BtfKind.Enum, "tp_event_kind");
        kinds.Count.ShouldBe(Enum.GetValues<EventKind>().Length);
        for (var i = 0; i < kinds.Count; i++)
        {
            // TP_EVENT_PACKET_QUEUED is PacketQueued.
            var (name, value) = kinds.Constant(i);
            var words = name["TP_EVENT_".Length..].Split('_').Select(w => w[..1] + w[1..].ToLowerInvariant());
            Enum.Parse<EventKind>(string.Concat(words)).ShouldBe((EventKind)value);
        }
    }

    [Fact]
    public void Constants_AreTheConfigurationAlone()
    {
        // What stands before load at the beginning of .rodata is written as a whole.
        var section = Find(Types(), BtfKind.DataSec, ".rodata");
        section.Count.ShouldBe(1);
    }

    [Fact]
    public void TruncatedOrDamagedTypes_AreRefusedOrWalkedWithoutAnException()
    {
        for (var length = 0; length < s_object.Length; length += 97)
        {
            if (Btf.TryParseElf(s_object.AsMemory(0, length), out var cut))
            {
                Walk(cut);
            }
        }

        var random = new Random(7);
        for (var i = 0; i < 300; i++)
        {
            var damaged = s_object.ToArray();
            for (var j = 0; j < 200; j++)
            {
                damaged[random.Next(damaged.Length)] = (byte)random.Next(256);
            }

            if (Btf.TryParseElf(damaged, out var btf))
            {
                Walk(btf);
            }
        }
    }

    [Fact]
    public void RunningKernel_TellsWhatIsNeeded()
    {
        Assert.SkipUnless(File.Exists("/sys/kernel/btf/vmlinux"), "needs a kernel with BTF");
        var types = KernelTypes.Current.ShouldNotBeNull();
        types.HasTracepoint("net_dev_queue").ShouldBeTrue();
        types.HasTracepoint("no_such_tracepoint").ShouldBeFalse();
        Assert.SkipUnless(types.HasDropReasons, "needs Linux 5.17");
        types.DropReason(3).ShouldNotBeNull();
        types.DropReason(0x00fe_0007).ShouldBe("SUBSYSTEM_254_REASON_7");
        types.DropReason(60_000).ShouldBe("REASON_60000");
    }

    [Fact]
    public void FindingByName_AgreesWithTheWalk()
    {
        Types().TryFind(BtfKind.Struct, "\0tp_event\0"u8, "\0boot_ns\0"u8, out var type).ShouldBeTrue();
        type.Size.ShouldBe(Find(Types(), BtfKind.Struct, "tp_event").Size);
        type.OffsetOf("cgroup"u8).ShouldBe(8);
        Types().TryFind(BtfKind.Struct, "\0tp_event\0"u8, "\0tuplehash\0"u8, out _).ShouldBeFalse();
        Types().TryFind(BtfKind.Enum, "\0tp_event\0"u8, "\0boot_ns\0"u8, out _).ShouldBeFalse();
        Types().HasName("\0tp_even\0"u8).ShouldBeFalse();
    }

    private static void Walk(Btf btf)
    {
        _ = KernelTypes.From(btf, () => null);
        var sum = 0L;
        foreach (var type in btf)
        {
            sum += type.Name.Length + type.Count;
            for (var i = 0; i < type.Count && type.Kind == BtfKind.Struct; i++)
            {
                sum += type.Member(i).Name.Length;
            }
        }

        sum.ShouldBeGreaterThanOrEqualTo(0);
    }

    private static BtfType Find(Btf btf, BtfKind kind, string name)
    {
        foreach (var type in btf)
        {
            if (type.Kind == kind && Encoding.UTF8.GetString(type.Name) == name)
            {
                return type;
            }
        }

        throw new InvalidOperationException($"The object's BTF has no {kind} {name}.");
    }

    private static uint SizeOf(Btf btf, uint id)
    {
        var type = btf[id];
        return type.Kind switch
        {
            BtfKind.Array => type.Array.Length * SizeOf(btf, type.Array.Element),
            BtfKind.Typedef or BtfKind.Const or BtfKind.Volatile => SizeOf(btf, type.Target),
            _ => type.Size,
        };
    }

    private static uint SizeOf(Type type) => (uint)Marshal.SizeOf(type.IsEnum ? Enum.GetUnderlyingType(type) : type);
}
