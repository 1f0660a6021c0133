using TraceProbe.Cli.Output;

namespace TraceProbe.Cli.Tests;

public class PageTests
{
    [Fact]
    public void Words_StayWhole() => Page.Wrap("one my-nginx.default.svc.cluster.local two", 10, breakWords: false)
        .ShouldBe(["one", "my-nginx.default.svc.cluster.local", "two"]);

    [Fact]
    public void LongWordInACell_BreaksBehindASlash() => Page.Wrap("pod/default/my-nginx-wu92j", 20, breakWords: true).ShouldBe(["pod/default/", "my-nginx-wu92j"]);

    [Fact]
    public void LongWordWithoutJoints_BreaksAnywhere() => string.Concat(Page.Wrap(new string('x', 100), 9, breakWords: true)).ShouldBe(new string('x', 100));

    [Fact]
    public void Text_ComesOutAsItWentIn()
    {
        var random = new Random(3);
        for (var round = 0; round < 500; round++)
        {
            var text = string.Join(' ', Enumerable.Range(0, random.Next(1, 30)).Select(_ => new string('w', random.Next(1, 20))));
            var width = random.Next(20, 60);
            var lines = Page.Wrap(text, width, breakWords: false);
            string.Join(' ', lines).ShouldBe(text);
            lines.ShouldAllBe(l => l.Length <= width);
        }
    }

    [Fact]
    public void Cells_StandBesideEachOther()
    {
        var page = new Page(new TextStyle(40));
        page.Row(2, new Cell("left side", 4), new Cell("1 ms", 6, Right: true), new Cell("right"));
        page.ToString().ShouldBe("  left    1 ms  right\n  side\n");
    }

    [Fact]
    public void WideCharacters_CountTwice()
    {
        SafeText.Columns("ab").ShouldBe(2);
        SafeText.Columns("漢字").ShouldBe(4);
        SafeText.Columns("🙂").ShouldBe(2);
    }

    [Theory]
    [InlineData("plain", "plain")]
    [InlineData("ü → ▸", "ü → ▸")]
    [InlineData("\e[31mred", @"\x1b[31mred")]
    [InlineData("a\nb", @"a\x0ab")]
    [InlineData("a\u202eb", @"a\u202eb")]
    [InlineData("a\u200bb", @"a\u200bb")]
    [InlineData("\u009b31m", @"\x9b31m")]
    public void SafeText_ShowsWhatATerminalWouldActUpon(string text, string safe)
    {
        SafeText.Of(text).ShouldBe(safe);
        SafeText.Of(safe).ShouldBe(safe);
    }
}
