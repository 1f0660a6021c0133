using System.Globalization;
using TraceProbe.Agent.Requests;

namespace TraceProbe.Agent.Tests.Requests;

[Collection("network")]
public sealed class CommandRunnerTests(TestNetwork network)
{
    [Fact]
    public void Command_SeesTheClientsNamespaceAndFiles()
    {
        var client = network.Client("nameserver 127.0.0.2\n# 'it's \"quoted\" $HOME\n", "10.53.0.1 by-hand\n");
        var output = network.WriteFile("");
        var mounts = File.ReadAllText("/proc/self/mounts");
        var pid = 0;
        var code = Run(["sh", "-c", "{ echo $$; readlink /proc/self/ns/net; cat /etc/resolv.conf; cat /etc/hosts; grep ^hosts: /etc/nsswitch.conf; printf '%s|' \"$@\"; } > \"$0\"", output, "a b", "$(id)", ""],
            client, started => pid = started);
        code.ShouldBe(0);
        File.ReadAllText(output).ShouldBe($"{pid}\nnet:[{network.Namespace.Inode}]\nnameserver 127.0.0.2\n# 'it's \"quoted\" $HOME\n10.53.0.1 by-hand\nhosts: files dns\na b|$(id)||");
        // Nothing of it is seen from here.
        File.ReadAllText("/proc/self/mounts").ShouldBe(mounts);
        File.ReadAllText("/etc/resolv.conf").ShouldNotContain("quoted");
        network.NobodyShouldBeInside();
    }

    [Theory]
    [InlineData("exit 7", 7)]
    [InlineData("kill -TERM $$", 143)]
    public void ExitCode_IsPassedOn(string script, int expected)
        => Run(["/bin/sh", "-c", script], network.Client("")).ShouldBe(expected);

    [Fact]
    public void MissingCommand_Is127AndUnusableOne126()
    {
        var client = network.Client("");
        Run(["tp-no-such-command"], client).ShouldBe(127);
        Run(["/nowhere/tp-no-such-command"], client).ShouldBe(127);
        Run(["/etc/passwd"], client).ShouldBe(126);
        Run(["/etc"], client).ShouldBe(126);
    }

    [Fact]
    public void OwnEnvironment_NeedsNothing()
        => Run(["true"], new ClientEnvironment()).ShouldBe(0);

    [Fact]
    public void Cancelling_EndsTheCommand()
    {
        var client = network.Client("");
        using var source = new CancellationTokenSource(200);
        CommandRunner.Run(["sleep", "60"], client, null, source.Token).ShouldBe(143);
    }

    [Fact]
    public void Curl_AsksTheClientsNameserver()
    {
        Assert.SkipUnless(File.Exists("/usr/bin/curl"), "needs curl");
        var client = network.Client("search svc.cluster.local\nnameserver 127.0.0.2\noptions ndots:5\n");
        var port = network.Serve(s => { _ = s.Receive(new byte[1000]); s.Send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"u8); });
        var output = network.WriteFile("");
        Run(["curl", "-sS", "-m", "5", "-o", output, string.Create(CultureInfo.InvariantCulture, $"http://web.default:{port}/")], client).ShouldBe(0);
        File.ReadAllText(output).ShouldBe("hello");
        // 6: could not resolve host.
        Run(["curl", "-s", "-m", "5", "http://nope.cluster.local./"], client).ShouldBe(6);
    }

    [Theory]
    [InlineData("hosts: files mymachines resolve [!UNAVAIL=return] dns\npasswd: files\n", "passwd: files\n\nhosts: files dns\n")]
    [InlineData("", "\nhosts: files dns\n")]
    public void Nsswitch_AsksFilesAndDnsOnly(string text, string expected)
        => CommandRunner.FilesAndDnsOnly(text).ShouldBe(expected);

    private static int Run(string[] command, ClientEnvironment environment, Action<int>? onStarted = null)
        => CommandRunner.Run(command, environment, onStarted, TestContext.Current.CancellationToken);
}
