using System.Diagnostics;
using System.Globalization;
using System.Text;
using TraceProbe.Agent.Requests;
using TraceProbe.Core.Requests;

namespace TraceProbe.Agent.Tests.Requests;

/// <summary>The C libraries are the judges: the same host and resolv.conf, their questions and ours, as one nameserver saw them.</summary>
[Collection("network")]
public sealed class LibraryTests(TestNetwork network)
{
    private static int s_next;

    // host, configuration, and which names get another answer than NXDOMAIN: DOMAIN:RCODE, or drop, drop28 (AAAA alone), nodata.
    public static TheoryData<string, string, string> Cases => new()
    {
        { "web", "search a.x b.x\noptions ndots:5 attempts:1\n", "b.x:0" },
        { "web", "search a.x b.x\noptions ndots:5 attempts:1\n", "" },
        { "web.y", "search a.x b.x\noptions attempts:1\n", "" },
        { "web.y.", "search a.x b.x\noptions ndots:5 attempts:1\n", "" },
        { "web", "search a.x b.x\noptions ndots:0 attempts:1\n", "" },
        { "web", "search a.x b.x\noptions ndots:5 attempts:2 timeout:1\n", "a.x:2" },
        { "web", "search a.x b.x\noptions ndots:5 attempts:2 timeout:1\n", "a.x:5" },
        { "web", "search a.x b.x\noptions ndots:5 attempts:1 timeout:1\n", "a.x:4" },
        { "web", "search a.x b.x\noptions ndots:5 attempts:2 timeout:1\n", "a.x:1" },
        { "web.y", "search a.x b.x\noptions ndots:1 attempts:1 timeout:1\n", "web.y:5" },
        { "web.y", "search a.x b.x\noptions ndots:1 attempts:1 timeout:1\n", "web.y:2" },
        { "web", "domain a.x ignored.x\noptions ndots:5 attempts:1\n", "" },
        { "web", "search first.x\nsearch a.x\n search no.x\noptions ndots:5 attempts:1\n", "" },
        { "web", "search a.x b.x\noptions ndots:5 attempts:1 timeout:1\n", "a.x:drop" },
        { "web", "search a.x b.x\noptions ndots:5 attempts:1 timeout:1\n", "b.x:drop28" },
        { "web", "search a.x b.x\noptions ndots:5 attempts:1\n", "a.x:nodata" },
    };

    [Theory]
    [MemberData(nameof(Cases))]
    [InlineData("web", "search a.x . b.x\noptions ndots:5 attempts:1\n", "")]
    public void Glibc_AsksTheSameQuestions(string host, string configuration, string rule)
    {
        Assert.SkipUnless(File.Exists("/usr/bin/getent"), "needs getent");
        Compare(["sh", "-c", "getent ahosts \"$0\" >/dev/null", host], host, configuration, rule, ResolverFlavor.Glibc).ShouldBeOneOf(0, 2);
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Musl_AsksTheSameQuestions(string host, string configuration, string rule)
        => Compare([Musl(), host, "/dev/null"], host, configuration, rule, ResolverFlavor.Musl).ShouldBeOneOf(0, 2);

    [Theory]
    [InlineData(ResolverFlavor.Glibc)]
    [InlineData(ResolverFlavor.Musl)]
    public void Addresses_AreInTheLibrarysOrder(ResolverFlavor flavor)
    {
        Assert.SkipUnless(File.Exists("/usr/bin/getent"), "needs getent");
        var client = network.Client("nameserver 127.0.0.2\n", "", flavor);
        var output = network.WriteFile("");
        var code = CommandRunner.Run(flavor == ResolverFlavor.Musl
            ? [Musl(), "both.test", output]
            : ["sh", "-c", "getent ahosts both.test | awk '/STREAM/ { print $1 }' > \"$0\"", output], client, null, TestContext.Current.CancellationToken);
        code.ShouldBe(0);
        Send("both.test", client).Addresses.Select(a => a.ToString()).ShouldBe(File.ReadAllLines(output));
    }

    // Both at the same time, each with a nameserver of its own: most of these wait for something.
    private int Compare(string[] command, string host, string configuration, string rule, ResolverFlavor flavor)
    {
        var theirs = new List<string>();
        var ours = new List<string>();
        var theirClient = network.Client($"nameserver {Nameserver(theirs, rule)}\n{configuration}", "", flavor);
        var ourClient = network.Client($"nameserver {Nameserver(ours, rule)}\n{configuration}", "", flavor);
        var sending = new Thread(() => Send(host, ourClient)) { IsBackground = true };
        sending.Start();
        var code = CommandRunner.Run(command, theirClient, null, TestContext.Current.CancellationToken);
        sending.Join();
        lock (theirs)
        {
            theirs.ShouldNotBeEmpty();
            lock (ours)
            {
                ours.ShouldBe(theirs);
            }
        }

        return code;
    }

    private string Nameserver(List<string> asked, string rule) => network.ServeDatagrams(query =>
    {
        var name = NameOf(query, out var type);
        lock (asked)
        {
            asked.Add($"{type} {name}");
        }

        return Answer(query, name, type, rule);
    }, string.Create(CultureInfo.InvariantCulture, $"127.0.1.{Interlocked.Increment(ref s_next)}"));

    private static ClientReport Send(string host, ClientEnvironment client)
    {
        RequestTarget.TryParse($"tcp://{host}:9", "", "", out var target, out _).ShouldBeTrue();
        return RequestSender.Send(target!, client, TimeSpan.FromSeconds(15), TestContext.Current.CancellationToken);
    }

    private static byte[]? Answer(byte[] query, string name, int type, string rule)
    {
        var colon = rule.IndexOf(':', StringComparison.Ordinal);
        var applies = colon > 0 && (name == rule[..colon] || name.EndsWith("." + rule[..colon], StringComparison.Ordinal));
        var word = applies ? rule[(colon + 1)..] : "3";
        if (word == "drop" || word == $"drop{type}")
        {
            return null;
        }

        query[2] |= 0x80;
        query[3] = (byte)(0x80 | (word is "nodata" or "drop28" ? 0 : int.Parse(word, CultureInfo.InvariantCulture)));
        if (word != "0" && word != "drop28" || type != 1)
        {
            return query;
        }

        query[7] = 1;
        return [.. query, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 10, 53, 0, 1];
    }

    private static string NameOf(byte[] query, out int type)
    {
        var name = new StringBuilder();
        var at = 12;
        while (query[at] > 0)
        {
            name.Append(name.Length > 0 ? "." : "").Append(Encoding.ASCII.GetString(query, at + 1, query[at]));
            at += query[at] + 1;
        }

        type = query[at + 2];
        return name.ToString();
    }

    // getaddrinfo in a program linked with musl: HOST FILE writes the addresses into the file.
    private string Musl()
    {
        Assert.SkipUnless(File.Exists("/usr/bin/musl-gcc"), "needs musl-gcc (apt-get install musl-tools)");
        var source = network.WriteFile("""
            #include <netdb.h>
            #include <stdio.h>
            int main(int argc, char **argv)
            {
                struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found;
                if (getaddrinfo(argv[1], "9", &hints, &found)) return 2;
                FILE *file = fopen(argv[2], "w");
                for (char text[64]; found; found = found->ai_next) {
                    getnameinfo(found->ai_addr, found->ai_addrlen, text, sizeof text, 0, 0, NI_NUMERICHOST);
                    fprintf(file, "%s\n", text);
                }
                return fclose(file);
            }
            """);
        var program = source + ".musl";
        using var compiler = Process.Start("musl-gcc", ["-static", "-x", "c", "-o", program, source]);
        compiler.WaitForExit();
        compiler.ExitCode.ShouldBe(0);
        return program;
    }
}
