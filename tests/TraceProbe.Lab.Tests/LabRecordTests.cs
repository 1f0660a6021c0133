using System.Text.Json;

namespace TraceProbe.Lab.Tests;

public sealed class LabRecordTests
{
    [Fact]
    public void Record_LosesNothing()
    {
        foreach (var mode in Enum.GetValues<ProxyMode>())
        {
            var record = new LabRecord
            {
                Name = "demo",
                Proxy = mode,
                SelfCommand = ["/usr/bin/dotnet", "trace probe.dll"],
                Up = true,
                CreatedAt = new DateTimeOffset(2026, 1, 2, 3, 4, 5, TimeSpan.FromHours(1)),
                Cgroup = "/sys/fs/cgroup/lab",
            };
            var read = LabRecord.Read(record.ToJson());
            read.SelfCommand.ShouldBe(record.SelfCommand);
            (read with { SelfCommand = record.SelfCommand }).ShouldBe(record);
        }
    }

    [Fact]
    public void RecordCutAnywhere_IsRefused()
    {
        var text = new LabRecord { Name = "demo", SelfCommand = ["a"], Up = true }.ToJson();
        for (var length = 0; length < text.Length; length++)
        {
            Should.Throw<JsonException>(() => LabRecord.Read(text.AsSpan(0, length)), $"cut after {length} bytes");
        }
    }
}
