using System.Collections.Immutable;
using System.Text.Json;
using TraceProbe.Core.Net;

namespace TraceProbe.Lab;

/// <summary>The folder of one lab under /run: everything known of it, so that any process can open it.</summary>
internal sealed class LabFolder
{
    internal LabFolder(string name)
    {
        Name = name;
        Path = LabLayout.Folder(name);
        Objects = new ObjectStore($"{Path}/objects");
        Journal = new Journal($"{Path}/journal");
    }

    internal string Name { get; }

    internal string Path { get; }

    internal ObjectStore Objects { get; }

    internal Journal Journal { get; }

    internal string SnapshotPath => $"{Path}/cluster.json";

    /// <summary>How kubectl reaches the lab's API server; there once that listens.</summary>
    internal string KubeconfigPath => $"{Path}/kubeconfig";

    internal string PlacesPath => $"{Path}/places.json";

    internal string PausePath => $"{Path}/bin/pause";

    internal bool Exists => Directory.Exists(Path);

    /// <summary>The folder of a node, a pod or the outside.</summary>
    internal string PlaceFolder(string place) => $"{Path}/places/{place}";

    internal string EtcFolder(string place) => $"{Path}/places/{place}/etc";

    /// <summary>Where the agent of a node keeps its state, and listens.</summary>
    internal string AgentFolder(string node) => $"{Path}/agents/{node}";

    internal string NetNsPath(string what) => NetNs.PathOf(LabLayout.NetNsOf(Name, what));

    /// <summary>Present while the node's kube-proxy is stopped; says by which fault.</summary>
    internal string PausedPath(string node) => $"{PlaceFolder(node)}/kube-proxy.paused";

    /// <summary>Present while the cluster's DNS does not follow the objects.</summary>
    internal string DnsPausedPath => $"{Path}/dns.paused";

    internal LabRecord? ReadRecord()
    {
        try
        {
            return LabRecord.Read(File.ReadAllBytes($"{Path}/lab.json"));
        }
        catch (FileNotFoundException)
        {
            return null;
        }
        catch (DirectoryNotFoundException)
        {
            return null;
        }
        catch (JsonException)
        {
            // As much as not there: who opens the lab is told that it is not complete, and how to remove it.
            return new LabRecord { Name = Name };
        }
        catch (UnauthorizedAccessException e)
        {
            throw new LabException($"Lab {Name} belongs to root, and only root may look into it. Run it with sudo.", e);
        }
    }

    internal void Write(LabRecord record) => Files.Replace($"{Path}/lab.json", record.ToJson());

    internal ImmutableArray<Place> ReadPlaces() => File.Exists(PlacesPath)
        ? PlaceList.Read(File.ReadAllBytes(PlacesPath))
        : [];

    internal void Write(ImmutableArray<Place> places) => Files.Replace(PlacesPath, PlaceList.Write(places));

    /// <summary>Takes the lab's lock: whoever changes objects, rules or processes of a lab holds it, in whatever process it runs.</summary>
    /// <exception cref="LabException">It is held for more than a minute.</exception>
    internal FileStream Lock()
    {
        for (var attempt = 0; ; attempt++)
        {
            try
            {
                // FileShare.None is flock(2) here, so the kernel lets go of it when its holder dies.
                return new FileStream($"{Path}/lock", FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
            }
            catch (DirectoryNotFoundException e)
            {
                throw new LabException($"There is no lab named {Name}. Make one with: traceprobe lab up --name {Name}", e);
            }
            catch (IOException) when (attempt < 6000)
            {
                Thread.Sleep(10);
            }
            catch (IOException e)
            {
                throw new LabException($"Lab {Name} has been busy for a minute: another process holds {Path}/lock.", e);
            }
        }
    }
}
