using TraceProbe.Agent.Sessions;
using TraceProbe.Core.Net;

namespace TraceProbe.Agent.Tests.Sessions;

public class SceneTests
{
    private static readonly Scene Lab = new()
    {
        Cluster = "demo",
        IsClosed = true,
        Places =
        [
            new Place { Name = "node/node-1", Kind = PlaceKind.Node, Node = "node-1", NetNs = 1 },
            new Place { Name = "node/node-2", Kind = PlaceKind.Node, Node = "node-2", NetNs = 2 },
            new Place { Name = "pod/default/ubuntu", Kind = PlaceKind.Pod, Node = "node-1", PodNamespace = "default", PodName = "ubuntu", NetNs = 3 },
            new Place { Name = "outside", Kind = PlaceKind.Outside, NetNs = 4 },
        ],
    };

    [Theory]
    [InlineData("pod/ubuntu", "pod/default/ubuntu")]
    [InlineData("pod/default/ubuntu", "pod/default/ubuntu")]
    [InlineData("node/node-1", "node/node-1")]
    [InlineData("node-2", "node/node-2")]
    [InlineData("outside", "outside")]
    public void Place_IsFound(string from, string name) => Lab.FindPlace(from, "default").Name.ShouldBe(name);

    [Theory]
    [InlineData("pod/ubunto", "default", "pod/default/ubuntu")]
    [InlineData("pod/ubuntu", "shop", "pod/default/ubuntu")]
    [InlineData("something-else-entirely", "default", "There are: node/node-1")]
    [InlineData("node", "default", "Say where")]
    [InlineData(null, "default", "Say where")]
    [InlineData("netns:no-such-namespace", "default", "no-such-namespace")]
    [InlineData("netns:/etc/hostname", "default", "/etc/hostname")]
    public void Mistake_GetsAnAnswer(string? from, string ns, string words)
        => Should.Throw<Exception>(() => Lab.FindPlace(from, ns)).Message.ShouldContain(words);

    [Fact]
    public void ThisMachine_IsANode()
    {
        var scene = Scene.OfThisMachine();
        scene.IsClosed.ShouldBeFalse();
        var here = scene.FindPlace("node", "default");
        here.NetNs.ShouldNotBe(0u);
        scene.FindPlace(null, "default").ShouldBe(here);
        scene.FindPlace("netns:/proc/self/ns/net", "default").Name.ShouldBe(here.Name, "a namespace that has a name is called by it");
    }
}
