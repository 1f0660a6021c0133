using System.Text;
using TraceProbe.Core.Requests;

namespace TraceProbe.Core.Tests.Requests;

public sealed class HttpHeadTests
{
    [Theory]
    [InlineData("HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nbody", "HTTP/1.1 200 OK", 200, 12L)]
    [InlineData("HTTP/1.0 503 Service Unavailable\n\n", "HTTP/1.0 503 Service Unavailable", 503, null)]
    [InlineData("HTTP/1.1 204\r\n\r\n", "HTTP/1.1 204", 204, null)]
    [InlineData("HTTP/1.1 200 OK\r\nCONTENT-LENGTH:7\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 200 OK", 200, null)]
    [InlineData("HTTP/1.1 200 OK\r\nContent-Length: 7x\r\nno colon\r\n\r\n", "HTTP/1.1 200 OK", 200, null)]
    [InlineData("HTTP/1.1 200 \u001b[31m\0\r\n\r\n", "HTTP/1.1 200 ?[31m?", 200, null)]
    [InlineData("HTTP/1.1\r\nX: 200 OK\r\n\r\n", "HTTP/1.1", 0, null)]
    [InlineData("HTTP/1.1 2000 OK\r\n\r\n", "HTTP/1.1 2000 OK", 0, null)]
    public void Head_IsRead(string text, string statusLine, int status, long? length)
    {
        var bytes = Encoding.Latin1.GetBytes(text);
        HttpHead.TryRead(bytes, out var head).ShouldBeTrue();
        (head.StatusLine, head.Status, head.ContentLength).ShouldBe((statusLine, status, length));
        bytes.AsSpan(head.Length).ToArray().ShouldBe(text.EndsWith("body", StringComparison.Ordinal) ? "body"u8.ToArray() : []);

        // Cut anywhere before its end, it is not a head yet.
        for (var i = 0; i < head.Length; i++)
        {
            HttpHead.TryRead(bytes.AsSpan(0, i), out _).ShouldBeFalse();
            HttpHead.CouldBegin(bytes.AsSpan(0, i)).ShouldBeTrue();
        }
    }

    [Theory]
    [InlineData("SSH-2.0-OpenSSH_9.2\r\n\r\n")]
    [InlineData("\u0015\u0003\u0001")]
    [InlineData("\n\n")]
    public void OtherBytes_AreNone(string text)
    {
        HttpHead.CouldBegin(Encoding.Latin1.GetBytes(text)).ShouldBeFalse();
        HttpHead.TryRead(Encoding.Latin1.GetBytes(text), out _).ShouldBeFalse();
    }

    [Fact]
    public void LongStatusLine_IsCut()
    {
        HttpHead.TryRead(Encoding.ASCII.GetBytes("HTTP/1.1 200 " + new string('x', 5000) + "\r\n\r\n"), out var head).ShouldBeTrue();
        head.StatusLine.Length.ShouldBe(HttpHead.MaxStatusLine);
    }

    [Fact]
    public void RandomBytes_NeverThrow()
    {
        var random = new Random(3);
        string[] words = ["HTTP/1.1", " ", "200", "\r\n", "\n", ":", "content-length", "transfer-encoding", "\0", "-1", "99999999999999999999", "\t", "\u00ff"];
        for (var i = 0; i < 100_000; i++)
        {
            var bytes = Encoding.Latin1.GetBytes("HTTP/" + string.Concat(Enumerable.Range(0, random.Next(12)).Select(_ => words[random.Next(words.Length)])));
            if (HttpHead.TryRead(bytes, out var head))
            {
                head.Length.ShouldBeInRange(1, bytes.Length);
                (head.ContentLength ?? 0).ShouldBeGreaterThanOrEqualTo(0);
                head.StatusLine.ShouldAllBe(c => !char.IsControl(c));
            }
        }
    }
}
