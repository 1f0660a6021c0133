using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;

namespace TraceProbe.Capture.Tests;

public sealed class NetworkNamespaceTests
{
    [Fact]
    public void MissingName_SaysNoSuchNamespace()
        => Should.Throw<FileNotFoundException>(() => NetworkNamespace.Open("/run/netns/tp-test-not-there")).Message.ShouldContain("No such namespace");

    [Theory]
    [InlineData("/etc/passwd")]
    [InlineData("/proc/self/ns/mnt")]
    public void OtherFile_IsRefused(string path)
        => Should.Throw<IOException>(() => NetworkNamespace.Open(path)).Message.ShouldContain("not a network namespace");

    [Fact]
    public void Current_HasTheInodeOfProcSelf()
    {
        using var current = NetworkNamespace.OpenCurrent();
        File.ResolveLinkTarget("/proc/self/ns/net", false)!.Name.ShouldBe(string.Create(CultureInfo.InvariantCulture, $"net:[{current.Inode}]"));
    }

    [Fact]
    public void Run_SeesTheOtherNamespaceAndLeavesTheCallerWhereItWas()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "needs root");
        var name = $"tp-ns-{Environment.ProcessId}-{Random.Shared.Next(100_000)}";
        Ip("netns", "add", name);
        try
        {
            using var space = NetworkNamespace.Open("/run/netns/" + name);
            using var before = NetworkNamespace.OpenCurrent();
            space.Inode.ShouldNotBe(before.Inode);
            space.Run(() => { using var inside = NetworkNamespace.OpenCurrent(); return inside.Inode; }).ShouldBe(space.Inode);
            space.Run(() => File.ReadAllLines("/proc/thread-self/net/dev").Length).ShouldBe(3, "two lines of heading, and lo");
            using var after = NetworkNamespace.OpenCurrent();
            after.Inode.ShouldBe(before.Inode);
            Should.Throw<InvalidTimeZoneException>(() => space.Run(() => throw new InvalidTimeZoneException()));
        }
        finally
        {
            Ip("netns", "del", name);
        }
    }

    [Fact]
    public void OpenSocket_BelongsToTheOtherNamespaceAndNoThreadStaysThere()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "needs root");
        var name = $"tp-ns-{Environment.ProcessId}-{Random.Shared.Next(100_000)}";
        Ip("netns", "add", name);
        try
        {
            using var space = NetworkNamespace.Open("/run/netns/" + name);
            for (var i = 0; i < 1_000; i++)
            {
                using var socket = new Socket(new SafeSocketHandle(space.OpenSocket(2, (int)SocketType.Dgram, 0), true));
                // The namespace has no route at all, not even to itself: its loopback is down.
                Should.Throw<SocketException>(() => socket.Connect(IPAddress.Loopback, 9)).SocketErrorCode.ShouldBe(SocketError.NetworkUnreachable);
            }

            Directory.GetDirectories("/proc/self/task").ShouldNotContain(task => NamespaceOf(task) == $"net:[{space.Inode}]");
            space.OpenSocket(250, (int)SocketType.Dgram, 0).ShouldBe(-97, "EAFNOSUPPORT");
            space.Dispose();
            Should.Throw<ObjectDisposedException>(() => space.OpenSocket(2, (int)SocketType.Dgram, 0));
        }
        finally
        {
            Ip("netns", "del", name);
        }
    }

    [Fact]
    public void BootClock_AgreesWithUptime()
    {
        var uptime = double.Parse(File.ReadAllText("/proc/uptime").Split(' ')[0], CultureInfo.InvariantCulture);
        (BootClock.Now / 1e9).ShouldBe(uptime, 60);
        var first = BootClock.Now;
        BootClock.Now.ShouldBeGreaterThanOrEqualTo(first);
    }

    private static string? NamespaceOf(string task)
    {
        try
        {
            return new FileInfo(task + "/ns/net").LinkTarget;
        }
        catch (IOException)
        {
            return null; // that thread has ended since
        }
    }

    private static void Ip(params string[] arguments)
    {
        using var process = Process.Start("ip", arguments);
        process.WaitForExit();
        process.ExitCode.ShouldBe(0);
    }
}
