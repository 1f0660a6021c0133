using System.Diagnostics;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using TraceProbe.Agent.Requests;
using TraceProbe.Core.Requests;

namespace TraceProbe.Agent.Tests.Requests;

[Collection("network")]
public sealed class ExchangeTests(TestNetwork network)
{
    [Fact]
    public void Answer_GivesItsStatusLine()
    {
        var request = "";
        var port = network.Serve(s => { request = ReadRequest(s); Say(s, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"); });
        var report = Get($"http://both.test:{port}/a?b=c");
        report.StatusLine.ShouldBe("HTTP/1.1 200 OK");
        report.Failure.ShouldBeNull();
        // IPv6 comes first and nothing listens there.
        report.Connects.Select(c => $"{c.Remote} {c.Error}").ShouldBe([$"[fd00:53::1]:{port} 111", $"10.53.0.1:{port} 0"]);
        report.Connects[1].Local!.Value.Address.ToString().ShouldBe("10.53.0.1");
        report.Connects[1].Local!.Value.Port.ShouldBeGreaterThan((ushort)0);
        report.Pid.ShouldBe(Environment.ProcessId);
        request.ShouldBe($"GET /a?b=c HTTP/1.1\r\nHost: both.test:{port}\r\nUser-Agent: traceprobe/0.1.0\r\nAccept: */*\r\nConnection: close\r\n\r\n");
    }

    [Fact]
    public void IPv6Address_IsConnectedTo()
    {
        var port = network.Serve(s => { ReadRequest(s).ShouldContain("Host: [fd00:53::1]:"); Say(s, "HTTP/1.1 204 No Content\r\n\r\n"); }, "fd00:53::1");
        var report = Get($"http://[fd00:53::1]:{port}/");
        report.StatusLine.ShouldBe("HTTP/1.1 204 No Content");
        report.Lookups.ShouldBeEmpty();
    }

    [Theory]
    // What the server sends before it closes, the status line, the failure.
    [InlineData("HTTP/1.1 503 Service Unavailable\r\n\r\n", "HTTP/1.1 503 Service Unavailable", null)]
    [InlineData("HTTP/1.0 200 OK\n\nbody", "HTTP/1.0 200 OK", null)]
    [InlineData("HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK", null)]
    [InlineData("", null, "Empty reply from server")]
    [InlineData("HTTP/1.1 200 OK\r\nContent-Le", "HTTP/1.1 200 OK", "Transfer closed with outstanding read data remaining")]
    [InlineData("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n123", "HTTP/1.1 200 OK", "Transfer closed with outstanding read data remaining")]
    [InlineData("HTT", null, "Transfer closed with outstanding read data remaining")]
    [InlineData("SSH-2.0-OpenSSH_9.2p1\r\n", null, "Received HTTP/0.9 when not allowed")]
    [InlineData("\0\0\0\0\0\0", null, "Received HTTP/0.9 when not allowed")]
    [InlineData("HTTP/1.1 200 \0\u001b[2J\r\n\r\n", "HTTP/1.1 200 ??[2J", null)]
    public void Answers_AreToldInCurlsWords(string answer, string? statusLine, string? failure)
    {
        var port = network.Serve(s => { _ = ReadRequest(s); Say(s, answer); });
        var report = Get($"http://10.53.0.1:{port}/");
        (report.StatusLine, report.Failure).ShouldBe((statusLine, failure));
    }

    [Fact]
    public void Reset_IsTold()
    {
        var port = network.Serve(s => { _ = ReadRequest(s); s.LingerState = new LingerOption(true, 0); });
        Get($"http://10.53.0.1:{port}/").Failure.ShouldBe("Connection reset by peer");
    }

    [Fact]
    public void ClosedPort_IsRefused()
    {
        var report = Get("http://10.53.0.1:9/");
        report.Failure.ShouldBe("Connection refused");
        report.Connects.Single().Error.ShouldBe(111);
    }

    [Fact]
    public void Silence_TimesOut()
    {
        var report = Get("http://10.99.0.9:80/", 0.3);
        report.Failure.ShouldBe("Connection timed out");
        report.Connects.Single().Error.ShouldBe(110);
        report.Connects.Single().Local!.Value.Address.ToString().ShouldBe("10.99.0.1");
    }

    [Fact]
    public void NoRoute_IsTold() => Get("http://192.0.2.1/").Failure.ShouldBe("Network is unreachable");

    [Fact]
    public void ServerThatNeverAnswers_TimesOut()
    {
        var port = network.Serve(s => Wait(s));
        var report = Get($"http://10.53.0.1:{port}/", 0.3);
        report.Failure.ShouldBe("Operation timed out");
        report.Connects.Single().Error.ShouldBe(0);
    }

    [Theory]
    [InlineData("HTTP/1.1 200 OK\r\nX: ", "HTTP/1.1 200 OK")]
    [InlineData("H", null)]
    public void DrippingHead_EndsWithTheTime(string start, string? statusLine)
    {
        var port = network.Serve(s =>
        {
            Say(s, start);
            for (var i = 0; i < 100; i++)
            {
                Thread.Sleep(20);
                Say(s, start.Length > 1 ? "x" : i < 3 ? "TTP"[i].ToString() : i == 3 ? "/" : "x");
            }
        });
        var clock = Stopwatch.StartNew();
        var report = Get($"http://10.53.0.1:{port}/", 0.5);
        (report.StatusLine, report.Failure).ShouldBe((statusLine, "Operation timed out"));
        clock.Elapsed.TotalSeconds.ShouldBeLessThan(1.9);
    }

    [Fact]
    public void EndlessHead_IsCut()
    {
        var port = network.Serve(s => { Say(s, "HTTP/1.1 200 OK\r\n"); while (true) { Say(s, "X: " + new string('y', 1000) + "\r\n"); } });
        var report = Get($"http://10.53.0.1:{port}/");
        (report.StatusLine, report.Failure).ShouldBe(("HTTP/1.1 200 OK", "Too large response headers"));
    }

    [Theory]
    [InlineData("")]
    [InlineData("Content-Length: 99999999999999\r\n")]
    public void EndlessBody_IsLeft(string header)
    {
        var port = network.Serve(s => { Say(s, $"HTTP/1.1 200 OK\r\n{header}\r\n"); while (true) { Say(s, new string('y', 60_000)); } });
        var report = Get($"http://10.53.0.1:{port}/");
        (report.StatusLine, report.Failure).ShouldBe(("HTTP/1.1 200 OK", null));
    }

    [Fact]
    public void BodyThatStalls_TimesOut()
    {
        var port = network.Serve(s => { Say(s, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc"); Wait(s); });
        Get($"http://10.53.0.1:{port}/", 0.4).Failure.ShouldBe("Operation timed out");
    }

    [Fact]
    public void StreamWithoutLength_IsHealthy()
    {
        var port = network.Serve(s => { Say(s, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"); Wait(s); });
        Get($"http://10.53.0.1:{port}/", 3).Failure.ShouldBeNull();
    }

    [Fact]
    public void WholeAnswer_ClosesWithoutAReset()
    {
        using var closed = new ManualResetEventSlim();
        var clean = false;
        var port = network.Serve(s =>
        {
            _ = ReadRequest(s);
            Say(s, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + new string('x', 100_000));
            s.Shutdown(SocketShutdown.Send);
            clean = s.Receive(new byte[1]) == 0;
            closed.Set();
        });
        Get($"http://10.53.0.1:{port}/").Failure.ShouldBeNull();
        closed.Wait(2_000, TestContext.Current.CancellationToken).ShouldBeTrue();
        clean.ShouldBeTrue();
    }

    [Fact]
    public void Tcp_ConnectsAndCloses()
    {
        var port = network.Serve(s => s.Receive(new byte[1]));
        var report = Get($"tcp://10.53.0.1:{port}");
        (report.Failure, report.Connects.Single().Error, report.StatusLine).ShouldBe((null, 0, null));
    }

    [Fact]
    public void Udp_WaitsForAnAnswer()
    {
        var address = network.ServeDatagrams(query => query, "127.0.0.11");
        Get($"udp://{address}:53").Failure.ShouldBeNull();
        Get("udp://127.0.0.11:54").ShouldSatisfyAllConditions(r => r.Failure.ShouldBe("Connection refused"), r => r.Connects.Single().Error.ShouldBe(111));
        Get("udp://10.99.0.9:53", 0.2).ShouldSatisfyAllConditions(r => r.Failure.ShouldBe("Operation timed out"), r => r.Connects.Single().Error.ShouldBe(0));
    }

    [Fact]
    public void Tls_AnswersAndNamesTheCertificatesFault()
    {
        using var key = RSA.Create(2048);
        using var own = new CertificateRequest("CN=other.test", key, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1)
            .CreateSelfSigned(DateTimeOffset.UnixEpoch.AddYears(50), DateTimeOffset.UnixEpoch.AddYears(150));
        using var certificate = X509CertificateLoader.LoadPkcs12(own.Export(X509ContentType.Pkcs12), null);
        var port = network.Serve(s =>
        {
            using var tls = new SslStream(new NetworkStream(s));
            tls.AuthenticateAsServer(certificate);
            _ = tls.Read(new byte[1000]);
            tls.Write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"u8);
        });
        var report = Get($"https://10.53.0.1:{port}/");
        (report.StatusLine, report.Failure, report.TlsFailure).ShouldBe(("HTTP/1.1 200 OK", null, null));
        report.CertificateError.ShouldNotBeNull().ShouldContain("CN=other.test");
        // The other way round: plain HTTP to a TLS port brings an alert, or just the end.
        report = Get($"http://10.53.0.1:{port}/");
        (report.StatusLine, report.Failure is null).ShouldBe((null, false));
    }

    [Theory]
    [InlineData("HTTP/1.1 400 Bad Request\r\n\r\n", "TLS connect error: the server speaks plain HTTP on this port, not TLS")]
    [InlineData("SSH-2.0-OpenSSH_9.2p1\r\n", "TLS connect error: the server's answer is not TLS")]
    [InlineData("", "TLS connect error: the server closed the connection within the handshake")]
    public void TlsToAnotherProtocol_SaysWhatAnswered(string answer, string failure)
    {
        var port = network.Serve(s => { _ = s.Receive(new byte[4000]); Say(s, answer); });
        var report = Get($"https://10.53.0.1:{port}/");
        report.Failure.ShouldBe(failure);
        report.TlsFailure.ShouldBe(failure["TLS connect error: ".Length..]);
        report.StatusLine.ShouldBeNull();
    }

    [Fact]
    public void TlsToASilentServer_TimesOut()
    {
        var port = network.Serve(s => Wait(s));
        var report = Get($"https://10.53.0.1:{port}/", 0.4);
        (report.Failure, report.TlsFailure).ShouldBe(("Operation timed out", "the server did not finish the handshake in time"));
    }

    [Fact]
    public void TlsAlertToPlainHttp_IsTold()
    {
        var port = network.Serve(s => { _ = ReadRequest(s); s.Send([21, 3, 3, 0, 2, 2, 10]); });
        var report = Get($"http://10.53.0.1:{port}/");
        (report.Failure, report.TlsFailure).ShouldBe(("Received HTTP/0.9 when not allowed", "it answered with a TLS alert"));
    }

    private ClientReport Get(string url, double timeout = 5)
    {
        var client = network.Client("nameserver 127.0.0.2\n");
        RequestTarget.TryParse(url, "default", "cluster.local", out var target, out var error).ShouldBeTrue(error);
        var report = RequestSender.Send(target!, client, TimeSpan.FromSeconds(timeout), TestContext.Current.CancellationToken);
        report.EndNanoseconds.ShouldBeGreaterThan(report.StartNanoseconds);
        network.NobodyShouldBeInside();
        return report;
    }

    private static string ReadRequest(Socket socket)
    {
        var text = new StringBuilder();
        var buffer = new byte[1000];
        while (!text.ToString().EndsWith("\r\n\r\n", StringComparison.Ordinal) && socket.Receive(buffer) is > 0 and var length)
        {
            text.Append(Encoding.ASCII.GetString(buffer, 0, length));
        }

        return text.ToString();
    }

    // Until the client goes.
    private static int Wait(Socket socket)
    {
        var buffer = new byte[1000];
        while (socket.Receive(buffer) > 0)
        {
        }

        return 0;
    }

    private static void Say(Socket socket, string text)
    {
        if (text.Length > 0)
        {
            socket.Send(Encoding.Latin1.GetBytes(text));
        }
    }
}
