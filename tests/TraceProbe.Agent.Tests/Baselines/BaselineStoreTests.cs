using TraceProbe.Agent.Baselines;
using TraceProbe.Core.Diagnosis;
using TraceProbe.Core.Requests;

namespace TraceProbe.Agent.Tests.Baselines;

public sealed class BaselineStoreTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("tp-baselines-").FullName;

    private BaselineStore Store => new(Path.Combine(_folder, "deep", "baselines"));

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private static Baseline Of(string name, string? cluster = "demo", string client = "pod/default/ubuntu", string service = "service/default/my-nginx:8080", int minute = 0) => new()
    {
        Name = name,
        Cluster = cluster,
        Client = client,
        Service = service,
        Target = new RequestTarget(RequestScheme.Http, "my-nginx", 8080, "/"),
        RecordedAt = new DateTimeOffset(2026, 3, 4, 5, minute, 0, TimeSpan.Zero),
        Stages = [new StageRecord(Stage.Resolve, StageStatus.Passed, [new StageFact("resolver", "10.96.0.10")], 1)],
    };

    [Fact]
    public void Stored_ComesBack()
    {
        Store.List().ShouldBeEmpty();
        Store.Save(Of("b"));
        Store.Save(Of("a", cluster: null));
        Store.Names().ShouldBe(["a", "b"]);
        var read = Store.Get("a");
        read.Cluster.ShouldBeNull();
        read.Stages[0].Facts[0].Value.ShouldBe("10.96.0.10");
        Directory.EnumerateFiles(Store.Folder).Count().ShouldBe(2, "nothing temporary stays");
    }

    [Fact]
    public void Pick_TakesTheNewestOfTheSameClientAndService()
    {
        Store.Save(Of("old", minute: 1));
        Store.Save(Of("new", minute: 2));
        Store.Save(Of("elsewhere", cluster: "other", minute: 3));
        Store.Save(Of("from-node", client: "node/node-1", minute: 4));
        Store.Save(Of("other-port", service: "service/default/my-nginx:9090", minute: 5));
        Store.Pick("demo", "pod/default/ubuntu", "service/default/my-nginx:8080")!.Name.ShouldBe("new");
        Store.Pick("demo", "pod/default/other", "service/default/my-nginx:8080").ShouldBeNull();
    }

    [Fact]
    public void Missing_NamesTheNearest()
    {
        Store.Save(Of("my-nginx"));
        Should.Throw<BaselineException>(() => Store.Get("my-ngin")).Message.ShouldContain("my-nginx");
        Should.Throw<BaselineException>(() => Store.Remove("my-ngin"));
        Store.Remove("my-nginx");
        Should.Throw<BaselineException>(() => Store.Get("my-nginx")).Message.ShouldContain("baseline record");
    }

    [Theory]
    [InlineData("../escape")]
    [InlineData("a/b")]
    [InlineData("")]
    [InlineData("UPPER")]
    [InlineData(".hidden")]
    [InlineData("-dash")]
    [InlineData("with space")]
    public void NameThatIsNone_IsRefused(string name)
    {
        BaselineStore.IsName(name).ShouldBeFalse();
        Should.Throw<BaselineException>(() => Store.Save(Of(name)));
        Should.Throw<BaselineException>(() => Store.Get(name));
    }

    [Theory]
    [InlineData("{", "could not be read")]
    [InlineData("null", "could not be read")]
    [InlineData("""{"name":"x"}""", "could not be read")]
    public void DamagedFile_IsNamed(string content, string words)
    {
        Store.Save(Of("x"));
        File.WriteAllText(Path.Combine(Store.Folder, "x.json"), content);
        var message = Should.Throw<BaselineException>(() => Store.Get("x")).Message;
        message.ShouldContain(words);
        message.ShouldContain("x.json");
    }

    [Fact]
    public void NewerVersion_IsRefused()
    {
        Store.Save(Of("x") with { Version = 2 });
        Should.Throw<BaselineException>(() => Store.Get("x")).Message.ShouldContain("version 2");
    }
}
