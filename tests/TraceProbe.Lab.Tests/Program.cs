using TraceProbe.Lab;

// A lab under test starts its controller and proxies with this very program.
if (await LabProcess.RunAsync(args) is { } ended)
{
    return ended;
}

// An up that a test kills in the middle.
if (args is ["up", var name])
{
    await Lab.UpAsync(new LabOptions { Name = name }, new Echo());
    return 0;
}

return await Xunit.Runner.InProc.SystemConsole.ConsoleRunner.Run(args);

internal sealed class Echo : IProgress<string>
{
    public void Report(string value) => Console.WriteLine(value);
}
