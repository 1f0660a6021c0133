using System.Security.Cryptography.X509Certificates;
using System.Text;
using TraceProbe.Cluster.Api;

namespace TraceProbe.Cluster.Tests.Api;

/// <summary>What is made of kubeconfig files, good ones and bad ones.</summary>
public sealed class KubeconfigTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("traceprobe-kubeconfig-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void SeveralFiles_FirstOneCountsForEachNameAndTheCurrentContext()
    {
        var first = Write("first", """
            current-context: b
            clusters:
            - {name: one, cluster: {server: "https://one-of-first:6443"}}
            contexts:
            - {name: a, context: {cluster: one, user: me, namespace: shop}}
            """);
        var second = Write("sub/second", """
            apiVersion: v1
            kind: Config
            current-context: a
            clusters:
            - name: one
              cluster: {server: https://one-of-second:6443}
            - name: two
              cluster:
                server: https://two
                certificate-authority: ca.crt
                tls-server-name: kubernetes.default
                proxy-url: http://me:secret@proxy:3128
            contexts:
            - name: b
              context: {cluster: two, user: me}
            users:
            - name: me
              user: {token: 123456, tokenFile: ../token}
            preferences: {}
            """);
        Write("sub/ca.crt", ScriptedApiServer.MakeCertificate().ExportCertificatePem());
        Write("token", "from-the-file\n");

        var config = Kubeconfig.Load([first, Path.Combine(_folder, "absent"), second]);

        config.CurrentContext.ShouldBe("b");
        config.ServerOf("a").Url.ShouldBe(new Uri("https://one-of-first:6443"));
        config.ServerOf("a").Namespace.ShouldBe("shop");
        var b = config.ServerOf();
        b.Url.ShouldBe(new Uri("https://two"));
        b.Cluster.ShouldBe("two");
        b.Namespace.ShouldBe("default");
        b.From.ShouldBe($"context b of {second}");
        b.Authorities.ShouldNotBeNull().Count.ShouldBe(1, "paths are relative to the file they stand in");
        b.TlsServerName.ShouldBe("kubernetes.default");
        b.Proxy.ShouldBe(new Uri("http://me:secret@proxy:3128"));
        b.Credentials.TokenFile.ShouldBe(Path.Combine(_folder, "token"));
        b.Credentials.Token.ShouldBe("123456", "a token of digits is a token");
    }

    [Fact]
    public void InlineData_CountsBeforeFiles()
    {
        using var certificate = ScriptedApiServer.MakeCertificate();
        var (pem, key) = (Base64(certificate.ExportCertificatePem()), Base64(certificate.GetECDsaPrivateKey()!.ExportPkcs8PrivateKeyPem()));
        var config = Kubeconfig.Load([Write("config", $$"""
            {"current-context": "x", "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"} }],
             "clusters": [{"name": "c", "cluster": {"server": "https://x", "certificate-authority": "/nowhere", "certificate-authority-data": "{{pem}}"} }],
             "users": [{"name": "u", "user": {"client-certificate": "/nowhere", "client-certificate-data": "{{pem}}", "client-key-data": "{{key}}", "as": "jane", "as-groups": ["dev", "ops"]} }]}
            """)]);

        var server = config.ServerOf();

        server.Authorities!.Count.ShouldBe(1);
        server.Credentials.Certificate!.HasPrivateKey.ShouldBeTrue();
        server.Impersonation.ShouldBe([("Impersonate-User", "jane"), ("Impersonate-Group", "dev"), ("Impersonate-Group", "ops")]);
    }

    [Theory]
    [InlineData("", "empty")]
    [InlineData("- a\n- b", "no kubeconfig")]
    [InlineData("a: [", "neither JSON nor YAML")]
    [InlineData("clusters: 3", "clusters is no list")]
    [InlineData("clusters: [{cluster: {}}]", "has no name")]
    [InlineData("contexts: [{name: a, context: {}}, {name: a, context: {}}]", "has a twice")]
    [InlineData("contexts: [{name: prod, context: {cluster: c}}]", "no current context; choose one with --context: prod")]
    [InlineData("{current-context: prdo, contexts: [{name: prod, context: {cluster: c}}]}", "There is no context prdo (", "The nearest: prod.")]
    [InlineData("{current-context: a, contexts: [{name: a, context: {cluster: c}}]}", "There is no cluster c")]
    [InlineData("{current-context: a, contexts: [{name: a, context: {}}]}", "names no cluster")]
    [InlineData("{current-context: a, contexts: [{name: a, context: {cluster: c}}], clusters: [{name: c, cluster: {server: 'ftp://x'}}]}", "no http or https URL: ftp://x")]
    [InlineData("{current-context: a, contexts: [{name: a, context: {cluster: c, user: u}}], clusters: [{name: c, cluster: {server: 'https://x'}}]}", "There is no user u")]
    [InlineData("{current-context: a, contexts: [{name: a, context: {cluster: c}}], clusters: [{name: c, cluster: {server: 'https://x', certificate-authority-data: '!'}}]}", "is not base64")]
    [InlineData("{current-context: a, contexts: [{name: a, context: {cluster: c}}], clusters: [{name: c, cluster: {server: 'https://x', certificate-authority: none.crt}}]}", "cannot be read")]
    [InlineData("{current-context: a, contexts: [{name: a, context: {cluster: c}}], clusters: [{name: c, cluster: {server: 'https://x', proxy-url: nonsense}}]}", "proxy-url")]
    [InlineData("{current-context: a, contexts: [{name: a, context: {cluster: c, user: u}}], clusters: [{name: c, cluster: {server: 'https://x'}}], users: [{name: u, user: {auth-provider: {name: gcp}}}]}", "auth-provider, which Kubernetes removed")]
    [InlineData("{current-context: a, contexts: [{name: a, context: {cluster: c, user: u}}], clusters: [{name: c, cluster: {server: 'https://x'}}], users: [{name: u, user: {client-key-data: eA==}}]}", "without a client-certificate")]
    [InlineData("{current-context: a, contexts: [{name: a, context: {cluster: c, user: u}}], clusters: [{name: c, cluster: {server: 'https://x'}}], users: [{name: u, user: {exec: {apiVersion: client.authentication.k8s.io/v1alpha1, command: x}}}]}", "v1alpha1; known are")]
    [InlineData("{current-context: a, contexts: [{name: a, context: {cluster: c, user: u}}], clusters: [{name: c, cluster: {server: 'https://x'}}], users: [{name: u, user: {exec: {apiVersion: client.authentication.k8s.io/v1}}}]}", "has no command")]
    public void BadConfig_SaysWhatIsWrong(string text, params string[] words)
    {
        var file = Write("config", text);
        var said = Should.Throw<ApiException>(() => Kubeconfig.Load([file]).ServerOf()).Message;
        said.ShouldContain(file);
        foreach (var word in words)
        {
            said.ShouldContain(word);
        }
    }

    [Fact]
    public void FileAskedForThatIsNotThere_IsAnError() => Should.Throw<ApiException>(() => Kubeconfig.Find(Path.Combine(_folder, "absent"))).Message.ShouldContain("There is no kubeconfig");

    private static string Base64(string text) => Convert.ToBase64String(Encoding.UTF8.GetBytes(text));

    private string Write(string name, string text)
    {
        var path = Path.Combine(_folder, name);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        File.WriteAllText(path, text);
        return path;
    }
}
