using System.IO.Compression;
using System.Text;
using System.Text.Json.Nodes;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Node;
using TraceProbe.Core.Recordings;

namespace TraceProbe.Core.Tests.Recordings;

public sealed class RecordingArchiveTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("tp-recording-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private string At(string name) => Path.Combine(_folder, name);

    [Theory]
    [InlineData("failure.tprec")]
    [InlineData("failure")]
    public void WrittenAndRead_IsTheSame(string name)
    {
        RecordingArchive.Write(At(name), RecordingSamples.Full, RecordingSamples.Report);
        var saved = RecordingArchive.Read(At(name));

        // Written again, every file comes out the same, so nothing was lost on the way.
        RecordingArchive.Write(At("again"), saved.Recording, RecordingSamples.Report);
        RecordingArchive.Write(At("first"), RecordingSamples.Full, RecordingSamples.Report);
        foreach (var file in Directory.EnumerateFiles(At("first"), "*", SearchOption.AllDirectories))
        {
            File.ReadAllText(At("again") + file[At("first").Length..]).ShouldBe(File.ReadAllText(file), file);
        }

        saved.Verdict!.Value.ToArray().ShouldBe(ReportJson.Write(RecordingSamples.Report));
        saved.Recording.Events.ShouldBe(RecordingSamples.Full.Events);
        saved.Recording.Cluster!.ClusterDomain.ShouldBe("corp.example");
        saved.Recording.Cluster.Services[0].Spec.Ports[0].TargetPort.IsEmpty.ShouldBeTrue();
        saved.Recording.Cluster.Services[0].Spec.Ports[1].TargetPort.Text.ShouldBe("9376");
        saved.Recording.Nodes[0].Dumps.ShouldBe(RecordingSamples.Full.Nodes[0].Dumps);
    }

    [Fact]
    public void WrittenTwice_GivesTheSameBytes()
    {
        RecordingArchive.Write(At("a.tprec"), RecordingSamples.Full, RecordingSamples.Report);
        RecordingArchive.Write(At("b.tprec"), RecordingSamples.Full, RecordingSamples.Report);
        File.ReadAllBytes(At("a.tprec")).ShouldBe(File.ReadAllBytes(At("b.tprec")));
        Directory.EnumerateFileSystemEntries(_folder).Count().ShouldBe(2, "nothing temporary stays");
    }

    [Fact]
    public void FolderThatExists_IsNotTouched()
    {
        Directory.CreateDirectory(At("mine"));
        File.WriteAllText(At("mine/notes"), "x");
        Should.Throw<RecordingException>(() => RecordingArchive.Write(At("mine"), RecordingSamples.Full, RecordingSamples.Report)).Message.ShouldContain("already exists");
        Should.Throw<RecordingException>(() => RecordingArchive.Write(At("no/such.tprec"), RecordingSamples.Full, RecordingSamples.Report)).Message.ShouldContain("no folder");
    }

    [Fact]
    public void HostileNodeName_StaysInside()
    {
        var node = RecordingSamples.Full.Nodes[0];
        var recording = RecordingSamples.Full with { Nodes = [node with { Name = "../../evil" }, node with { Name = ".._.._evil" }] };
        RecordingArchive.Write(At("x.tprec"), recording, RecordingSamples.Report);
        RecordingArchive.Read(At("x.tprec")).Recording.Nodes.Select(n => n.Name).ShouldBe(["../../evil", ".._.._evil"], ignoreOrder: true);
    }

    [Theory]
    [InlineData("manifest.json", """{"version":2}""", "newer")]
    [InlineData("manifest.json", """{"version":1}""", "manifest.json is damaged")]
    [InlineData("manifest.json", "{", "manifest.json is damaged")]
    [InlineData("manifest.json", """{"version":1,"mode":null}""", "null at byte")]
    [InlineData("events.ndjson", "{}\n", "events.ndjson: Line 1")]
    [InlineData("cluster.json", "[]", "cluster.json is damaged")]
    [InlineData("cluster.json", """{"items":[{"kind":"Secret"}]}""", "Secret")]
    [InlineData("cluster.json", """{"items":[7]}""", "items[0]")]
    [InlineData("client.json", """{"lookups":[{"name":"x"}]}""", "client.json is damaged")]
    [InlineData("nodes/node-1/node.json", """{"name":"n","dumps":[{"tool":"nft","text":""}]}""", "nodes/node-1/nft.txt is missing")]
    [InlineData("../../etc/passwd", "x", "leads out of the archive")]
    [InlineData("/etc/passwd", "x", "leads out of the archive")]
    public void DamagedOrHostileEntry_IsNamed(string entry, string content, string message)
    {
        RecordingArchive.Write(At("x.tprec"), RecordingSamples.Full, RecordingSamples.Report);
        using (var zip = ZipFile.Open(At("x.tprec"), ZipArchiveMode.Update))
        {
            zip.GetEntry(entry)?.Delete();
            using var stream = zip.CreateEntry(entry).Open();
            stream.Write(Encoding.UTF8.GetBytes(content));
        }

        Should.Throw<RecordingException>(() => RecordingArchive.Read(At("x.tprec"))).Message.ShouldContain(message);
    }

    [Fact]
    public void TooMuch_IsRefused()
    {
        using (var zip = ZipFile.Open(At("bomb.tprec"), ZipArchiveMode.Create))
        {
            using var stream = zip.CreateEntry("manifest.json", CompressionLevel.SmallestSize).Open();
            stream.Write(new byte[4 << 20]);
        }

        var limits = new RecordingLimits(Files: 4, ArchiveBytes: 1 << 20, FileBytes: 1 << 20, TotalBytes: 2 << 20);
        Should.Throw<RecordingException>(() => RecordingArchive.Read(At("bomb.tprec"), limits)).Message.ShouldContain("too large");

        using (var zip = ZipFile.Open(At("many.tprec"), ZipArchiveMode.Create))
        {
            for (var i = 0; i < 10; i++)
            {
                zip.CreateEntry($"{i}");
            }
        }

        Should.Throw<RecordingException>(() => RecordingArchive.Read(At("many.tprec"), limits)).Message.ShouldContain("10 entries");
        Should.Throw<RecordingException>(() => RecordingArchive.Read(At("many.tprec"), limits with { ArchiveBytes = 100 })).Message.ShouldContain("bytes long");
    }

    [Fact]
    public void EveryTruncationAndManyMutations_AreRefusedOrRead()
    {
        RecordingArchive.Write(At("x.tprec"), RecordingSamples.Full, RecordingSamples.Report);
        var bytes = File.ReadAllBytes(At("x.tprec"));
        var random = new Random(1);
        for (var round = 0; round < 2000; round++)
        {
            var copy = round < bytes.Length && round % 2 == 0 ? bytes[..round] : (byte[])bytes.Clone();
            if (copy.Length == bytes.Length)
            {
                copy[random.Next(copy.Length)] = (byte)random.Next(256);
            }

            try
            {
                _ = ReportJson.Write(Diagnose.Run(RecordingArchive.Read(new MemoryStream(copy), RecordingLimits.Default).Recording));
            }
            catch (RecordingException)
            {
            }
        }
    }

    [Theory]
    [InlineData("manifest.json")]
    [InlineData("client.json")]
    [InlineData("cluster.json")]
    [InlineData("baseline.json")]
    [InlineData("nodes/node-1/node.json")]
    public void EveryMemberLeftOutOrReplaced_IsRefusedOrDiagnosed(string entry)
    {
        RecordingArchive.Write(At("x"), RecordingSamples.Full, RecordingSamples.Report);
        var path = At($"x/{entry}");
        var text = File.ReadAllText(path);
        var diagnosed = 0;
        for (var which = 0; ; which++)
        {
            string?[] values = [null, "null", "[]", "{}", "-1", "9223372036854775807", "true", "\"\"", "\"\\u001b[2J\"", "\"::\"", "[null]"];
            foreach (var value in values)
            {
                var root = JsonNode.Parse(text)!;
                var members = new List<JsonNode>();
                Collect(root, members);
                if (which == members.Count)
                {
                    diagnosed.ShouldBePositive();
                    return;
                }

                switch (members[which].Parent)
                {
                    case JsonObject parent when value is null:
                        parent.Remove(members[which].GetPropertyName());
                        break;
                    case JsonObject parent:
                        parent[members[which].GetPropertyName()] = JsonNode.Parse(value!);
                        break;
                    case JsonArray parent when value is null:
                        parent.Remove(members[which]);
                        break;
                    case JsonArray parent:
                        parent[members[which].GetElementIndex()] = JsonNode.Parse(value!);
                        break;
                }

                File.WriteAllText(path, root.ToJsonString());
                try
                {
                    _ = ReportJson.Write(Diagnose.Run(RecordingArchive.Read(At("x")).Recording));
                    diagnosed++;
                }
                catch (RecordingException e)
                {
                    e.Message.ShouldContain(entry.StartsWith("nodes/", StringComparison.Ordinal) ? "nodes/node-1/" : entry);
                }
            }
        }

        static void Collect(JsonNode? node, List<JsonNode> members)
        {
            foreach (var child in node switch { JsonObject o => o.Select(m => m.Value), JsonArray a => a, _ => [] })
            {
                if (child is not null)
                {
                    members.Add(child);
                    Collect(child, members);
                }
            }
        }
    }

    [Fact]
    public void RulesThatAreNone_AreToldAndCountForNothing()
    {
        var node = RecordingSamples.Full.Nodes[0];
        var broken = RecordingSamples.Full with { Nodes = [node with { Dumps = [new RuleDump("iptables-save", "*nat\n-A NOWHERE -j ACCEPT\n")] }] };
        var verdict = Diagnose.Run(broken).Verdict;
        verdict.Class.ShouldNotBe(FailureClass.ProxyRulesMissing);
        verdict.Class.ShouldNotBe(FailureClass.ServiceRuleMissing);
        verdict.NotSeen.ShouldContain(n => n.Contains("iptables-save: Line 2"));
    }

    [Fact]
    public void SymbolicLink_IsRefused()
    {
        RecordingArchive.Write(At("x"), RecordingSamples.Full, RecordingSamples.Report);
        File.Delete(At("x/client.json"));
        File.CreateSymbolicLink(At("x/client.json"), "/etc/hostname");
        Should.Throw<RecordingException>(() => RecordingArchive.Read(At("x"))).Message.ShouldContain("symbolic link");
    }

    [Fact]
    public void Missing_SaysWhatToGive()
        => Should.Throw<RecordingException>(() => RecordingArchive.Read(At("nothing"))).Message.ShouldContain("Give a folder or a .tprec file");
}
