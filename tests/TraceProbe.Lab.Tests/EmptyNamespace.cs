namespace TraceProbe.Lab.Tests;

/// <summary>A network namespace with nothing in it, to try rules in; removed at the end. The test is skipped where there can be none.</summary>
internal sealed class EmptyNamespace : IDisposable
{
    private readonly string _name = $"tpt-{Guid.NewGuid().ToString("N")[..8]}";

    /// <param name="tools">The tools that the test needs in it.</param>
    internal EmptyNamespace(params ReadOnlySpan<string> tools)
    {
        Assert.SkipUnless(Environment.UserName == "root", "needs root");
        foreach (var tool in (string[])["ip", .. tools])
        {
            Assert.SkipUnless(Command.Find(tool) is not null, $"needs {tool}");
        }

        Command.Run(null, "ip", ["netns", "add", _name]);
    }

    internal string Path => NetNs.PathOf(_name);

    public void Dispose() => Command.Run(null, "ip", ["netns", "del", _name]);
}
