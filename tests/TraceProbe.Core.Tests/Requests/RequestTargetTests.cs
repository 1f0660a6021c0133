using TraceProbe.Core.Net;
using TraceProbe.Core.Requests;

namespace TraceProbe.Core.Tests.Requests;

public sealed class RequestTargetTests
{
    [Theory]
    [InlineData("http://my-nginx:8080", "http://my-nginx:8080/")]
    [InlineData("http://my-nginx", "http://my-nginx:80/")]
    [InlineData("my-nginx", "http://my-nginx:80/")]
    [InlineData("my-nginx:8080/a/b?c=d", "http://my-nginx:8080/a/b?c=d")]
    [InlineData("my-nginx?c=d#e", "http://my-nginx:80/?c=d")]
    [InlineData("my-nginx/?to=http://x", "http://my-nginx:80/?to=http://x")]
    [InlineData("HTTPS://my-nginx/#top", "https://my-nginx:443/")]
    [InlineData("http://my-nginx/#/a", "http://my-nginx:80/")]
    [InlineData("http://my-nginx.default.svc.cluster.local.:80/", "http://my-nginx.default.svc.cluster.local.:80/")]
    [InlineData("http://10.96.0.1", "http://10.96.0.1:80/")]
    [InlineData("http://[fd00::0001]:80/x", "http://[fd00::1]:80/x")]
    [InlineData("http://[fd00::1]", "http://[fd00::1]:80/")]
    [InlineData("http://[::ffff:10.0.0.1]:81", "http://10.0.0.1:81/")]
    [InlineData("tcp://db:5432", "tcp://db:5432")]
    [InlineData("tcp://[fd00::1]:5432", "tcp://[fd00::1]:5432")]
    [InlineData("udp://kube-dns.kube-system:53", "udp://kube-dns.kube-system:53")]
    [InlineData("svc/my-nginx", "http://my-nginx.web.svc.cluster.local:80/")]
    [InlineData("svc/my-nginx:8080/healthz", "http://my-nginx.web.svc.cluster.local:8080/healthz")]
    [InlineData("service/my-nginx:8080", "http://my-nginx.web.svc.cluster.local:8080/")]
    [InlineData("  my_app  ", "http://my_app:80/")]
    [InlineData("http://x/ü", "http://x:80/%C3%BC")]
    public void Text_IsRead(string text, string expected)
    {
        RequestTarget.TryParse(text, "web", "cluster.local", out var target, out var error).ShouldBeTrue(error);
        target!.ToString().ShouldBe(expected);
        RequestTarget.TryParse(expected, "web", "cluster.local", out var again, out _).ShouldBeTrue();
        again.ShouldBe(target);
    }

    [Theory]
    [InlineData("", "names no host")]
    [InlineData("http://", "names no host")]
    [InlineData("http://:80", "names no host")]
    [InlineData("svc/", "names no host")]
    [InlineData("ftp://x", "not a scheme")]
    [InlineData("://x", "not a scheme")]
    [InlineData("tcp://x", "needs a port")]
    [InlineData("udp://x", "needs a port")]
    [InlineData("x:0", "is not a port")]
    [InlineData("x:65536", "is not a port")]
    [InlineData("x:http", "is not a port")]
    [InlineData("x:", "is not a port")]
    [InlineData("x:-1", "is not a port")]
    [InlineData("fd00::1", "several colons")]
    [InlineData("http://[fd00::1", "brackets")]
    [InlineData("http://[]", "brackets")]
    [InlineData("http://]x[", "not a host name")]
    [InlineData("http://[10.0.0.1]", "brackets")]
    [InlineData("http://[fd00::1]80", "after the bracket")]
    [InlineData("http://user:secret@x/", "credentials")]
    [InlineData("http://a b/", "not a host name")]
    [InlineData("http://a..b/", "not a host name")]
    [InlineData("http://./", "not a host name")]
    [InlineData("http://x/a b", "percent-encoded")]
    [InlineData("http://x/ HTTP/1.1\r\nEvil: yes", "percent-encoded")]
    [InlineData("http://x/\0", "percent-encoded")]
    [InlineData("http://10.96.0.300/", "not an address")]
    [InlineData("http://10.1/", "not an address")]
    [InlineData("http://0x7f.0x1/", "not an address")]
    [InlineData("svc/my-nginx.web:80", "-n")]
    public void BadText_SaysWhatIsWrong(string text, string expected)
    {
        RequestTarget.TryParse(text, "web", "cluster.local", out var target, out var error).ShouldBeFalse();
        target.ShouldBeNull();
        error!.ShouldContain(expected);
    }

    [Fact]
    public void LongLabels_AreRefused()
    {
        RequestTarget.TryParse(new string('a', 63), "x", "y", out _, out _).ShouldBeTrue();
        RequestTarget.TryParse(new string('a', 64), "x", "y", out _, out _).ShouldBeFalse();
        RequestTarget.TryParse("svc/a", new string('n', 64), "y", out _, out _).ShouldBeFalse();
        RequestTarget.TryParse(string.Join('.', Enumerable.Repeat("abc", 64)), "x", "y", out _, out _).ShouldBeFalse();
    }

    [Fact]
    public void RandomText_NeverThrows()
    {
        var random = new Random(1);
        const string alphabet = "htps:/[]@.#?%0159afx\0 \u00fc";
        for (var i = 0; i < 100_000; i++)
        {
            var text = string.Concat(Enumerable.Range(0, random.Next(14)).Select(_ => alphabet[random.Next(alphabet.Length)]));
            (RequestTarget.TryParse(text, "n", "c", out var target, out var error) ? target is not null : error is not null).ShouldBeTrue();
        }
    }

    [Fact]
    public void Address_IsThereWhenTheHostIsOne()
    {
        RequestTarget.TryParse("udp://10.96.0.10:53", "", "", out var target, out _).ShouldBeTrue();
        target!.Address.ShouldBe(IpAddress.Parse("10.96.0.10"));
        target.Protocol.ShouldBe(IpProtocol.Udp);
        RequestTarget.TryParse("x", "", "", out target, out _).ShouldBeTrue();
        target!.Address.ShouldBeNull();
    }
}
