using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace TraceProbe.Agent.Api;

/// <summary>The certificate an agent shows: a given one, read again when its file changes, or one that it signs itself, kept beside its state so that the fingerprint stays.</summary>
internal sealed class ApiCertificate
{
    private static readonly TimeSpan Look = TimeSpan.FromSeconds(30);

    private readonly string _certificate;
    private readonly string _key;
    private readonly Lock _lock = new();
    private X509Certificate2 _current;
    private (DateTime Certificate, DateTime Key) _written;
    private long _lookedAt;

    /// <summary>Reads it, or makes one.</summary>
    /// <exception cref="CryptographicException">It is none, or the key is not its own.</exception>
    /// <exception cref="IOException">It cannot be read, or the new one not be stored.</exception>
    public ApiCertificate(AgentSettings settings, string node)
    {
        IsOwn = settings.Api.Certificate is null;
        _certificate = settings.Api.Certificate ?? Path.Combine(settings.State, "tls.crt");
        _key = settings.Api.Key ?? Path.Combine(settings.State, "tls.key");
        if (IsOwn && !(File.Exists(_certificate) && File.Exists(_key) && IsStillGood(_certificate)))
        {
            Make(node);
        }

        _written = Written();
        _current = Read();
    }

    /// <summary>Whether it is signed by itself.</summary>
    public bool IsOwn { get; }

    /// <summary>Its SHA-256 fingerprint, as hexadecimal digits.</summary>
    public string Fingerprint => _current.GetCertHashString(HashAlgorithmName.SHA256);

    /// <summary>The certificate as it is now.</summary>
    public X509Certificate2 Current
    {
        get
        {
            lock (_lock)
            {
                if (Environment.TickCount64 - _lookedAt > Look.TotalMilliseconds)
                {
                    _lookedAt = Environment.TickCount64;
                    try
                    {
                        if (Written() is var now && now != _written)
                        {
                            _current = Read();
                            _written = now;
                        }
                    }
                    catch (Exception e) when (e is IOException or CryptographicException or UnauthorizedAccessException)
                    {
                        // It is just being replaced; the old one serves until the next look.
                    }
                }

                return _current;
            }
        }
    }

    private (DateTime Certificate, DateTime Key) Written() => (File.GetLastWriteTimeUtc(_certificate), File.GetLastWriteTimeUtc(_key));

    private X509Certificate2 Read() => X509Certificate2.CreateFromPemFile(_certificate, _key);

    private static bool IsStillGood(string file)
    {
        try
        {
            using var certificate = X509CertificateLoader.LoadCertificateFromFile(file);
            return certificate.NotAfter - DateTime.Now > TimeSpan.FromDays(30);
        }
        catch (CryptographicException)
        {
            return false;
        }
    }

    private void Make(string node)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(_certificate)!);
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest($"CN={node.Replace(',', '_')}, O=TraceProbe agent", key, HashAlgorithmName.SHA256);
        var names = new SubjectAlternativeNameBuilder();
        names.AddDnsName(node);
        names.AddDnsName("localhost");
        names.AddIpAddress(IPAddress.Loopback);
        names.AddIpAddress(IPAddress.IPv6Loopback);
        request.CertificateExtensions.Add(names.Build());
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(false, false, 0, true));
        using var certificate = request.CreateSelfSigned(DateTimeOffset.UtcNow.AddDays(-1), DateTimeOffset.UtcNow.AddYears(1));

        // The key first: without its certificate it is made anew.
        using (var file = new FileStream(_key, new FileStreamOptions { Mode = FileMode.Create, Access = FileAccess.Write, UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite }))
        using (var writer = new StreamWriter(file))
        {
            writer.Write(key.ExportPkcs8PrivateKeyPem());
        }

        File.WriteAllText(_certificate, certificate.ExportCertificatePem());
    }
}
