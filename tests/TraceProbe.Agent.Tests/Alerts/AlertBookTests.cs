using TraceProbe.Agent.Alerts;
using TraceProbe.Core.Diagnosis;

namespace TraceProbe.Agent.Tests.Alerts;

public class AlertBookTests
{
    private static readonly DateTimeOffset Noon = new(2026, 11, 21, 12, 0, 0, TimeSpan.Zero);
    private static readonly AlertKey Refused = new(FailureClass.WrongTargetPort, "default/my-nginx:8080", "deployment/default/web");

    private readonly AlertBook _book = new("node-1", new AlertPolicy());

    private static Verdict Verdict(string sentence = "It is the port.") => new()
    {
        Class = FailureClass.WrongTargetPort, Sentence = sentence, Confidence = Confidence.Certain, Mend = new Mend("Mend it.", "kubectl patch"),
    };

    [Fact]
    public void FailuresBelowTheThreshold_AlertNobody()
    {
        _book.Failed(Refused, Noon, Verdict()).ShouldBeNull();
        _book.Failed(Refused, Noon.AddSeconds(1), Verdict()).ShouldBeNull();

        // The first has been forgotten by the time of the third.
        _book.Failed(Refused, Noon.AddSeconds(61), Verdict()).ShouldBeNull();
        _book.Open.ShouldBeEmpty();
    }

    [Fact]
    public void ThirdFailure_OpensOneAlert_AndThousandsMoreOpenNone()
    {
        var kept = 0;
        _book.Failed(Refused, Noon, Verdict(), () => new AlertExample { Recording = $"{++kept}" }).ShouldBeNull();
        _book.Failed(Refused, Noon.AddSeconds(1), Verdict(), () => new AlertExample { Recording = $"{++kept}" }).ShouldBeNull();
        var opened = _book.Failed(Refused, Noon.AddSeconds(4), Verdict(), () => new AlertExample { Recording = $"{++kept}" }).ShouldNotBeNull();
        opened.Event.ShouldBe(AlertEvent.Opened);
        opened.Alert.ShouldSatisfyAllConditions(
            a => a.FirstSeen.ShouldBe(Noon),
            a => a.LastSeen.ShouldBe(Noon.AddSeconds(4)),
            a => a.Count.ShouldBe(3),
            a => a.Attempts.ShouldBe(3),
            a => a.Sentence.ShouldBe("It is the port."),
            a => a.Example.Recording.ShouldBe("1"));
        for (var i = 0; i < 5_000; i++)
        {
            _book.Failed(Refused, Noon.AddSeconds(5), Verdict(), () => new AlertExample { Recording = $"{++kept}" }).ShouldBeNull();
        }

        kept.ShouldBe(1);
        _book.Open.ShouldHaveSingleItem().Count.ShouldBe(5_003);
    }

    [Fact]
    public void FailuresInPassing_WhileRulesFollowObjects_AlertNobody()
    {
        for (var i = 0; i < 200; i++)
        {
            _book.Failed(Refused, Noon.AddMilliseconds(i * 10), Verdict()).ShouldBeNull();
        }

        _book.Succeeded(Refused.Service, Refused.Client, Noon.AddSeconds(3));
        _book.Advance(Noon.AddSeconds(10)).ShouldBeEmpty();
        _book.Open.ShouldBeEmpty();
    }

    [Fact]
    public void ThreeTriesAtOnce_AndNoneSince_AreAlerted()
    {
        for (var i = 0; i < 3; i++)
        {
            _book.Failed(Refused, Noon.AddMilliseconds(i * 10), Verdict()).ShouldBeNull();
        }

        _book.Advance(Noon.AddSeconds(3)).ShouldBeEmpty();
        _book.Advance(Noon.AddSeconds(5)).ShouldHaveSingleItem().Event.ShouldBe(AlertEvent.Opened);
        _book.Advance(Noon.AddSeconds(6)).ShouldBeEmpty();
    }

    [Fact]
    public void WhatAnotherCauseTookThePlaceOf_IsNotAlerted()
    {
        var passing = Refused with { Class = FailureClass.EndpointRuleMissing };
        for (var i = 0; i < 20; i++)
        {
            _book.Failed(passing, Noon.AddMilliseconds(i * 10), Verdict()).ShouldBeNull();
        }

        for (var i = 1; i < 10; i++)
        {
            _book.Failed(Refused, Noon.AddSeconds(i), Verdict());
            _book.Advance(Noon.AddSeconds(i)).ShouldBeEmpty();
        }

        // And when it is mended, the rules follow once more.
        for (var i = 0; i < 20; i++)
        {
            _book.Failed(passing, Noon.AddSeconds(10).AddMilliseconds(i * 10), Verdict()).ShouldBeNull();
        }

        _book.Open.ShouldHaveSingleItem().Key.ShouldBe(Refused);
    }

    [Fact]
    public void ClientThatSeldomTries_IsAlertedAtItsThirdFailure_AlsoWithSuccessesInBetween()
    {
        for (var i = 0; i < 3; i++)
        {
            (_book.Failed(Refused, Noon.AddSeconds(20 * i), Verdict()) is not null).ShouldBe(i == 2);
            _book.Succeeded(Refused.Service, Refused.Client, Noon.AddSeconds((20 * i) + 10));
        }
    }

    [Fact]
    public void CauseThatCannotBeTold_IsAlertedWhenNothingElseIsSaid_AndLater()
    {
        var unknown = Refused with { Class = FailureClass.Undetermined };
        for (var i = 0; i < 16; i++)
        {
            _book.Failed(unknown, Noon.AddSeconds(i), Verdict("It was refused.")).ShouldBeNull();
        }

        _book.Failed(unknown, Noon.AddSeconds(16), Verdict("It was refused.")).ShouldNotBeNull();

        // Of a Service with a pod here and one elsewhere, the one here tells.
        var (told, mixed) = (Refused with { Client = "pod/default/other" }, unknown with { Client = "pod/default/other" });
        for (var i = 0; i < 50; i++)
        {
            _book.Failed(mixed, Noon.AddSeconds(i), Verdict("It was refused.")).ShouldBeNull();
            (_book.Failed(told, Noon.AddSeconds(i), Verdict()) is not null).ShouldBe(i == 4);
        }
    }

    [Fact]
    public void AnotherClassServiceOrClient_IsAnotherAlert()
    {
        foreach (var key in (AlertKey[])[Refused, Refused with { Class = FailureClass.NoListener }, Refused with { Service = "default/other:80" }, Refused with { Client = "node/node-1" }])
        {
            Open(key, Noon);
        }

        _book.Open.Count().ShouldBe(4);
    }

    [Fact]
    public void Share_CountsWhatWentWellInBetween()
    {
        _book.Succeeded(Refused.Service, Refused.Client, Noon.AddSeconds(-1));
        for (var i = 0; i < 3; i++)
        {
            _book.Failed(Refused, Noon.AddSeconds(2 * i), Verdict());
            _book.Succeeded(Refused.Service, Refused.Client, Noon.AddSeconds(2 * i));
        }

        // What went well before the first failure is no part of it.
        _book.Open.ShouldHaveSingleItem().ShouldSatisfyAllConditions(a => a.Count.ShouldBe(3), a => a.Attempts.ShouldBe(6), a => a.Share.ShouldBe(0.5));
    }

    [Fact]
    public void Mended_IsResolvedAfterQuietWithSuccesses()
    {
        Open(Refused, Noon);
        _book.Advance(Noon.AddSeconds(30)).ShouldBeEmpty(); // quiet, but nobody has tried again
        for (var i = 0; i < 3; i++)
        {
            _book.Succeeded(Refused.Service, Refused.Client, Noon.AddSeconds(31));
        }

        var resolved = _book.Advance(Noon.AddSeconds(32)).ShouldHaveSingleItem();
        resolved.Event.ShouldBe(AlertEvent.Resolved);
        resolved.Alert.ResolvedAt.ShouldBe(Noon.AddSeconds(32));
        resolved.Alert.Count.ShouldBe(3);
        _book.Open.ShouldBeEmpty();
        _book.Advance(Noon.AddSeconds(33)).ShouldBeEmpty();
    }

    [Fact]
    public void OneOfTwoBackendsBroken_StaysOpenThroughTheSuccesses()
    {
        Open(Refused, Noon);
        for (var second = 0; second < 300; second += 5)
        {
            _book.Succeeded(Refused.Service, Refused.Client, Noon.AddSeconds(second));
            _book.Failed(Refused, Noon.AddSeconds(second), Verdict()).ShouldBeNull();
            _book.Advance(Noon.AddSeconds(second)).ShouldAllBe(c => c.Event == AlertEvent.Continues);
        }
    }

    [Fact]
    public void NobodyTriesAgain_IsResolvedInTheEnd()
    {
        Open(Refused, Noon);
        _book.Advance(Noon.AddMinutes(9)).ShouldAllBe(c => c.Event == AlertEvent.Continues);
        _book.Advance(Noon.AddMinutes(11)).ShouldHaveSingleItem().Event.ShouldBe(AlertEvent.Resolved);
    }

    [Fact]
    public void WhatGoesOn_IsToldAgainOnceAMinute()
    {
        Open(Refused, Noon);
        var told = 0;
        for (var second = 5; second <= 245; second++)
        {
            told += _book.Advance(Noon.AddSeconds(second)).Count;
        }

        told.ShouldBe(4);
    }

    [Fact]
    public void MoreAlertsThanThereIsRoomFor_AreCounted()
    {
        for (var i = 0; i < AlertBook.MostAlerts + 7; i++)
        {
            _book.Failed(Refused with { Service = $"default/s{i}:80" }, Noon, Verdict());
        }

        _book.Shed.ShouldBe(7);
    }

    private void Open(AlertKey key, DateTimeOffset at)
    {
        for (var i = 0; i < 3; i++)
        {
            _book.Failed(key, at.AddSeconds(2 * i), Verdict());
        }
    }
}
