using System.Runtime.InteropServices;
using TraceProbe.Capture.Bpf;
using TraceProbe.Capture.Kernel;

namespace TraceProbe.Capture.Tests.Bpf;

/// <summary>What the operator is told when it does not work.</summary>
public sealed unsafe partial class BpfRefusalTests
{
    [Fact]
    public void WithoutCapabilities_SaysWhichAreMissing()
    {
        Assert.SkipUnless(File.Exists("/sys/kernel/btf/vmlinux"), "needs a kernel with BTF");
        Exception? thrown = null;
        IReadOnlyList<Capability> probed = [];
        OnThreadWithoutCapabilities(() =>
        {
            thrown = Record.Exception(() => KernelObserver.Open(new ObservationFilter()).Dispose());
            probed = KernelFeatures.Probe();
        });

        var refused = thrown.ShouldBeOfType<ObservationRefusedException>();
        refused.Why.ShouldContain("CAP_BPF, CAP_PERFMON");
        refused.Remedy.ShouldContain("root");
        refused.Message.Split('\n').Length.ShouldBeLessThanOrEqualTo(2);
        KernelFeatures.CanObserve(probed).ShouldBeFalse();
        probed.ShouldContain(c => c.Name == "CAP_BPF" && !c.Available && c.HowToGetIt != null);
        probed.ShouldContain(c => c.Name == "bpf(2)" && !c.Available);
    }

    [Fact]
    public void Probe_AgreesWithWhatHappens()
    {
        var probed = KernelFeatures.Probe();
        foreach (var capability in probed)
        {
            TestContext.Current.TestOutputHelper?.WriteLine(capability.ToString());
        }

        probed.Select(c => c.Name).ShouldBeUnique();
        var exception = Record.Exception(() => KernelObserver.Open(new ObservationFilter()).Dispose());
        KernelFeatures.CanObserve(probed).ShouldBe(exception is null, exception?.Message);
    }

    [Fact]
    public void VerifiersLog_IsSummarisedInOneLine()
        => BpfLoader.Summarise("""
            libbpf: prog 'kfree_skb': BPF program load failed: Permission denied
            libbpf: prog 'kfree_skb': -- BEGIN PROG LOAD LOG --
            0: R1=ctx() R10=fp0
            1: (79) r1 = *(u64 *)(r1 +0)
            R1 invalid mem access 'scalar'
            processed 84 insns (limit 1000000) max_states_per_insn 0 total_states 5
            -- END PROG LOAD LOG --
            libbpf: prog 'kfree_skb': failed to load: -13
            libbpf: failed to load object 'traceprobe'
            """).ShouldBe("prog 'kfree_skb': BPF program load failed: Permission denied: R1 invalid mem access 'scalar'.");

    [Fact]
    public void SilentLibrary_IsSaidToBeSilent() => BpfLoader.Summarise("").ShouldBe("libbpf gave no reason.");

    // Capabilities are a thread's own (capset(2)), and this one ends with it.
    private static void OnThreadWithoutCapabilities(Action work)
    {
        var thread = new Thread(() =>
        {
            var header = stackalloc uint[2];
            header[0] = 0x20080522;
            var none = stackalloc uint[6];
            capset(header, none).ShouldBe(0);
            work();
        });
        thread.Start();
        thread.Join();
    }

    [LibraryImport("libc")]
    private static partial int capset(uint* header, uint* data);
}
