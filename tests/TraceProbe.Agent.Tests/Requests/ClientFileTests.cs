using System.Diagnostics;
using TraceProbe.Agent.Requests;

namespace TraceProbe.Agent.Tests.Requests;

public sealed class ClientFileTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("tp-file-").FullName;

    [Fact]
    public void Text_IsRead()
    {
        var path = Path.Combine(_folder, "a");
        var text = string.Concat(Enumerable.Repeat("search a b\n", 2_000));
        File.WriteAllText(path, text);
        ClientFile.TryRead(path, out var reason).ShouldBe(text);
        reason.ShouldBeNull();
        ClientFile.TryRead("/proc/self/root" + path, out _).ShouldBe(text);
    }

    [Fact]
    public void WhatIsNoFile_IsAReason()
    {
        ClientFile.TryRead(Path.Combine(_folder, "missing"), out var reason).ShouldBeNull();
        reason.ShouldNotBeNull().ShouldContain("No such file");
        ClientFile.TryRead(_folder, out reason).ShouldBeNull();
        reason.ShouldNotBeNull();
        ClientFile.TryRead("/proc/0/root/etc/hosts", out reason).ShouldBeNull();
        reason.ShouldNotBeNull();
    }

    [Fact]
    public void EndlessFile_IsCut() => ClientFile.TryRead("/dev/zero", out _)!.Length.ShouldBe(ClientFile.MaxLength);

    [Fact]
    public void PipeWithoutWriter_DoesNotHold()
    {
        var path = Path.Combine(_folder, "pipe");
        using var process = Process.Start("mkfifo", [path]);
        process.WaitForExit();
        (ClientFile.TryRead(path, out var reason) is "" || reason is not null).ShouldBeTrue();
    }

    public void Dispose() => Directory.Delete(_folder, true);
}
