"""The alarms of the template over simulated traffic: each sees its incident in time, and none sees a single error."""

import re
from dataclasses import dataclass, field

import pytest

from alarm_model import ADDITIONAL_WINDOWS, Alarm, CompositeAlarm, Metric, decide
from conftest import ROOT, of_type

DAY = 24 * 60
# Minutes from one reset to the next. At five a second, each minute has 300.
LOADS = {"five a day": DAY // 5, "one an hour": 60, "five a second": 1 / 300}
# Of a challenge: 1 if it was settled late, and that it was settled. Completed ones also say what settled them.
IN_TIME, LATE = (0, 1), (1, 1)
COMPLETED_BY = "ChallengesSettled CHANGE_PIN COMPLETE"
# Of a reset that succeeds: the requests of the app, without the webhooks, the webhooks, and the challenge.
HEALTHY = {"Requests": 7, "Webhooks": 3, "SettledLate": IN_TIME, f"{COMPLETED_BY} webhook": 1}
RUN_EVERY = 5
CHECK_EVERY = 60
RUN = {"Invocations ReconcileChallengesFunction": 1}


@dataclass
class Incident:
    """What goes wrong, from minute 0 on."""

    # The counts of each reset, instead of those of a reset that succeeds, those of each reconciliation run, and those of
    # each hourly check of the subscription and of each minute, whatever the load.
    reset: dict = field(default_factory=lambda: HEALTHY)
    run: dict = field(default_factory=lambda: RUN)
    check: dict = field(default_factory=dict)
    minute: dict = field(default_factory=dict)
    # For each load, the alarm that tells, and the minutes after which it must be on.
    told: dict = field(default_factory=dict)


def failing(cause=None, **counts):
    """A reset whose first request fails. The user does not try again before the next reset."""
    logged = {f"Logged {cause}": 1} if cause else {}
    return {"FailedRequests": 1, "Requests": 1, **logged, **counts}


def rejected(cause):
    return {**HEALTHY, "RejectedWebhooks": 3, f"Logged {cause}": 3}


def late(**counts):
    """A reset whose webhooks do not arrive."""
    return {"Requests": 7, "SettledLate": LATE, **counts}


def slow_and_fast(slow, fast, minutes=2, resets=3):
    """At the two low loads the same alarm tells of an outage, with the third reset that fails."""
    low = {load: (slow, (resets - 1) * LOADS[load] + 15) for load in ["five a day", "one an hour"]}
    return low | {"five a second": (fast, minutes)}


def webhooks_rejected(fast):
    return slow_and_fast("RejectedWebhooksAlarm", fast, resets=2)


def at_any_load(alarm, minutes):
    return {load: (alarm, minutes) for load in LOADS}


def with_each_reset(alarm):
    return {"five a day": (alarm, 30), "one an hour": (alarm, 30), "five a second": (alarm, 2)}


SLOW = "ApiSlowBurnAlarm"
INCIDENTS = {
    "Circle is down": Incident(failing("circle_unavailable"), told=slow_and_fast(SLOW, "CircleUnavailableAlarm")),
    "everything fails": Incident(failing(), told=slow_and_fast(SLOW, "ApiFastBurnAlarm", 8)),
    "an app lists challenges before it fails": Incident(
        failing("circle_unavailable") | {"Requests": 4}, told=slow_and_fast(SLOW, "ApiFastBurnAlarm", 8)
    ),
    "Circle is slow": Incident(failing("timeout"), told=slow_and_fast(SLOW, "TimeoutAlarm")),
    "another app uses up Circle's rate limit": Incident(
        failing("circle_rate_limited"), told=slow_and_fast(SLOW, "CircleRateLimitedAlarm")
    ),
    "Circle's responses change": Incident(failing("circle_error"), told=slow_and_fast(SLOW, "CircleErrorAlarm")),
    "a table rejects writes": Incident(
        failing("storage_unavailable"), told=slow_and_fast(SLOW, "StorageUnavailableAlarm")
    ),
    "the secret cannot be read": Incident(
        failing("api_key_unavailable"), told=slow_and_fast(SLOW, "ApiKeyUnavailableAlarm")
    ),
    "the API key is wrong": Incident(failing("misconfigured"), told=with_each_reset("MisconfiguredAlarm")),
    "create-token does not start": Incident(
        failing(**{"Errors CreateTokenFunction": 1}), told=slow_and_fast(SLOW, "FunctionErrorsAlarm")
    ),
    "reconcile-challenges does not start": Incident(
        run=RUN | {"Errors ReconcileChallengesFunction": 1}, told=at_any_load("FunctionErrorsAlarm", 15)
    ),
    "the account has no concurrency left": Incident(
        run=RUN | {"Throttles ReconcileChallengesFunction": 1}, told=at_any_load("FunctionThrottlesAlarm", 15)
    ),
    "the schedule stops": Incident(run={}, told=at_any_load("ReconcileMissingAlarm", 45)),
    "DynamoDB is down": Incident(
        run=RUN | {"SystemErrors ChallengesTable Query": 24}, told=at_any_load("TableSystemErrorsAlarm", 5)
    ),
    "an index is throttled": Incident(
        run=RUN | {"ReadThrottleEvents ChallengesTable open-challenges": 24}, told=at_any_load("TableThrottlesAlarm", 5)
    ),
    "Circle's addresses change": Incident(
        rejected("source_not_allowed"), told=webhooks_rejected("SourceNotAllowedAlarm")
    ),
    "Circle signs in another way": Incident(
        rejected("invalid_signature"), told=webhooks_rejected("InvalidSignatureAlarm")
    ),
    "Circle's public key is unavailable": Incident(
        rejected("public_key_unavailable"), told=webhooks_rejected("PublicKeyUnavailableAlarm")
    ),
    "Circle's messages change": Incident(
        rejected("unreadable_notification"), told=with_each_reset("UnreadableNotificationAlarm")
    ),
    "reconciliation checks fail": Incident(
        run=RUN | {"Logged check_failed": 1}, told=at_any_load("CheckFailedAlarm", 60)
    ),
    "challenges are not found": Incident(
        HEALTHY | {"ChallengesAbandoned not_found": 1},
        told=slow_and_fast("ChallengeAbandonedAlarm", "ChallengeAbandonedAlarm"),
    ),
    "challenges are abandoned because their checks fail": Incident(
        HEALTHY | {"ChallengesAbandoned checks_failed": 1},
        told=slow_and_fast("ChallengeAbandonedAlarm", "ChallengeAbandonedAlarm"),
    ),
    "two requests in a hundred fail": Incident(
        HEALTHY | {"FailedRequests": 0.14}, told={"five a second": ("ApiSlowBurnAlarm", DAY)}
    ),
    "challenges are settled late": Incident(
        late(), told=slow_and_fast("SettledSlowBurnAlarm", "SettledFastBurnAlarm", 8, resets=4)
    ),
    "a fifth of the challenges is settled late": Incident(
        HEALTHY | {"SettledLate": (0.2, 1)}, told={"five a second": ("SettledSlowBurnAlarm", DAY)}
    ),
    "the subscription is lost": Incident(
        late(**{f"{COMPLETED_BY} reconcile": 1}),
        told=slow_and_fast("SettledByReconciliationAlarm", "SettledByReconciliationAlarm", 95, resets=2),
    ),
    "users are mixed up": Incident(
        HEALTHY | {"Logged report_of_another_user": 1}, told=with_each_reset("ReportOfAnotherUserAlarm")
    ),
    "a record cannot be read": Incident(
        HEALTHY | {"FailedRequests": 1, "Logged internal": 1}, told=with_each_reset("InternalAlarm")
    ),
    "Circle says COMPLETE after FAILED": Incident(
        HEALTHY | {"Logged complete_after_failure": 1}, told=with_each_reset("CompleteAfterFailureAlarm")
    ),
    "Circle reports two endings": Incident(
        HEALTHY | {"Logged conflicting_final_status": 1}, told=with_each_reset("ConflictingFinalStatusAlarm")
    ),
    "a deployment leaves a subscription": Incident(
        minute={"Logged subscription_left_behind": 1}, told=at_any_load("SubscriptionLeftBehindAlarm", 1)
    ),
    "the subscription is disabled": Incident(
        check={"Logged subscription_not_enabled": 1}, told=at_any_load("SubscriptionNotEnabledAlarm", 60)
    ),
    "Circle rejects the key of the subscription": Incident(
        check={"Logged subscription_not_checked": 1}, told=at_any_load("SubscriptionNotCheckedAlarm", 180)
    ),
    # Floods, each a little above the rate of its alarm.
    "unrequested challenges": Incident(
        minute={"Webhooks": 1500, "Logged unrequested_challenge": 1500},
        told=at_any_load("UnrequestedChallengeAlarm", 15),
    ),
    "webhooks about something else": Incident(
        minute={"Webhooks": 1500, "Logged webhook_ignored": 1500}, told=at_any_load("WebhookIgnoredAlarm", 15)
    ),
    "forged webhooks": Incident(
        minute={"Webhooks": 5, "RejectedWebhooks": 5, "Logged invalid_signature": 5},
        told=at_any_load("InvalidSignatureAlarm", 5),
    ),
    "webhooks beyond the throttle": Incident(
        minute={"ThrottledWebhooks": 25}, told=at_any_load("ThrottledWebhooksAlarm", 5)
    ),
    "requests beyond the throttle": Incident(
        minute={"ThrottledRequests": 25}, told=at_any_load("ThrottledRequestsAlarm", 5)
    ),
    "requests without a token": Incident(minute={"4xx HttpApi": 700}, told=at_any_load("ClientErrorsAlarm", 5)),
    "one user in a loop": Incident(
        minute={"Logged too_many_requests": 25}, told=at_any_load("TooManyRequestsAlarm", 5)
    ),
    "publishing fails": Incident(
        minute={"IteratorAge AnnounceChallengesFunction": 400_000}, told=at_any_load("EventsDelayedAlarm", 1)
    ),
    "Lambda stops retrying": Incident(
        HEALTHY | {"DroppedEventCount AnnounceChallengesFunctionStream": 1},
        told=with_each_reset("EventsNotPublishedAlarm"),
    ),
    "a record of the stream cannot be read": Incident(
        minute={"ApproximateNumberOfMessagesVisible UnreadableRecordsQueue": 1},
        told=at_any_load("UnreadableRecordsAlarm", 1),
    ),
    "the example consumer fails": Incident(
        minute={"ApproximateNumberOfMessagesVisible PinChangedDeadLetterQueue": 1},
        told=at_any_load("UndeliveredAlertsAlarm", 1),
    ),
    "a key of another account": Incident(
        run=RUN | {"Logged most_challenges_not_found": 1}, told=at_any_load("MostChallengesNotFoundAlarm", 5)
    ),
}


@pytest.fixture(scope="session")
def windows(template):
    """The alarms on metrics, of which some are a window of a composite alarm."""
    return {name: Alarm(properties) for name, properties in of_type(template, "AWS::CloudWatch::Alarm").items()}


@pytest.fixture(scope="session")
def alarms(template, windows):
    """The alarms that notify somebody."""
    composite = {
        name: CompositeAlarm(properties, windows)
        for name, properties in of_type(template, "AWS::CloudWatch::CompositeAlarm").items()
    }
    parts = {name for one in composite.values() for name in one.windows}
    return composite | {name: alarm for name, alarm in windows.items() if name not in parts}


ACCESS_LOG = ["Requests", "FailedRequests", "Webhooks", "RejectedWebhooks"]


def traffic(load, minutes, incident=Incident(), since=0, until=None, extra=()):
    """The metrics of `minutes` minutes, with an incident from minute `since` up to `until`. `extra` are single counts:
    (minute, metric, count)."""
    counts = {}
    until = until or minutes

    def add(minute, metric, count, times=1):
        value, samples = count if isinstance(count, tuple) else (count, count)
        of_metric = counts.setdefault(metric, {})
        before = of_metric.get(minute, (0, 0))
        of_metric[minute] = (before[0] + value * times, before[1] + samples * times)

    every = LOADS[load]
    at_once = max(1, round(1 / every))
    # The first reset begins some minutes after the incident.
    for minute in range(0 if at_once > 1 else 7, minutes, max(1, round(every))):
        for metric, count in (incident.reset if since <= minute < until else HEALTHY).items():
            add(minute, metric, count, at_once)
    for minute in range(2, minutes, RUN_EVERY):
        for metric, count in (incident.run if since <= minute < until else RUN).items():
            add(minute, metric, count)
    for minute in range(since + CHECK_EVERY - 1, until, CHECK_EVERY):
        for metric, count in incident.check.items():
            add(minute, metric, count)
    for minute in range(since, until):
        for metric, count in incident.minute.items():
            add(minute, metric, count)
    for event in extra:
        add(*event)
    # The filter for failed requests counts 0 in a minute in which the access log has only other lines.
    for minute in {minute for metric in ACCESS_LOG for minute in counts.get(metric, {})}:
        add(minute, "FailedRequests", (0, 1))
    return {metric: Metric(counted, minutes) for metric, counted in counts.items()}


def on(alarms, series, minutes):
    """The alarms that are on in some minute, each with the first such minute, for each number of additional windows."""
    # Without data, an alarm can be on only if missing data breaches.
    possible = [name for name, one in alarms.items() if one.missing_breaches or {*one.metrics.values()} & {*series}]
    return [
        {
            name: minute
            for name, alarm in ((name, alarms[name]) for name in possible)
            for minute in [next((one for one in minutes if alarm.is_on(series, one, additional)), None)]
            if minute is not None
        }
        for additional in ADDITIONAL_WINDOWS
    ]


@pytest.mark.parametrize(
    ("points", "to_alarm", "breaching", "not_breaching"),
    [
        ("0-X-X", 3, False, False),
        ("0----", 3, False, False),
        ("-----", 3, True, False),
        ("0XX-X", 3, True, True),
        ("--X--", 3, True, False),
        ("0-X-X", 2, True, True),
        ("00X0X", 2, True, True),
        ("0-X--", 2, True, False),
        ("----0", 2, True, False),
        ("---X-", 2, True, False),
    ],
)
def test_the_model_agrees_with_the_examples_of_aws(points, to_alarm, breaching, not_breaching):
    """The two tables of "Configuring how CloudWatch alarms treat missing data", for three evaluation periods."""
    found = [point == "X" for point in reversed(points) if point != "-"]
    assert decide(found, 3, to_alarm, missing_breaches=True) == breaching
    assert decide(found, 3, to_alarm, missing_breaches=False) == not_breaching


@pytest.mark.parametrize(
    ("incident", "load"), [(name, load) for name, incident in INCIDENTS.items() for load in incident.told]
)
def test_an_incident_is_told_in_time(alarms, incident, load):
    begins = DAY
    name, within = INCIDENTS[incident].told[load]
    series = traffic(load, begins + within + 1, INCIDENTS[incident], since=begins)
    for additional in ADDITIONAL_WINDOWS:
        assert not any(alarms[name].is_on(series, minute, additional) for minute in range(begins))
        assert any(alarms[name].is_on(series, begins + minute, additional) for minute in range(within + 1))


@pytest.mark.parametrize("load", LOADS)
def test_a_first_deployment_raises_no_alarm(alarms, load):
    """Also if nobody uses the service yet, and if the first run is late."""
    used = traffic(load, DAY)
    unused = {metric: counts for metric, counts in traffic(load, DAY).items() if metric in RUN}
    late = {"Invocations ReconcileChallengesFunction": Metric({minute: 1 for minute in range(20, DAY, 5)}, DAY)}
    for series in [used, unused, late]:
        assert on(alarms, series, [*range(60), *range(60, DAY, 7)]) == [{}] * len(ADDITIONAL_WINDOWS)


def test_a_schedule_that_never_runs_is_told_after_the_warm_up(alarms):
    [found, _] = on(alarms, {}, range(60))
    assert found == {"ReconcileMissingAlarm": 30}


# One request or one webhook that fails, or one error that a retry has hidden.
BLIPS = {
    **{
        cause: ["FailedRequests", f"Logged {cause}"]
        for cause in [
            "circle_unavailable",
            "circle_rate_limited",
            "circle_error",
            "storage_unavailable",
            "api_key_unavailable",
            "timeout",
        ]
    },
    **{
        cause: ["RejectedWebhooks", f"Logged {cause}"]
        for cause in ["source_not_allowed", "invalid_signature", "public_key_unavailable"]
    },
    "crash": ["FailedRequests", "Errors CreateTokenFunction"],
    "throttle": ["FailedRequests", "Throttles CreateTokenFunction"],
    "check": ["Logged check_failed"],
    "check of the subscription": ["Logged subscription_not_checked"],
    "abandoned": ["ChallengesAbandoned not_found"],
    "table": ["SystemErrors ChallengesTable UpdateItem", "WriteThrottleEvents RateLimitsTable"],
    "limit": ["Logged too_many_requests", "ThrottledRequests"],
}


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("blip", BLIPS)
def test_a_single_error_raises_no_alarm(alarms, blip, load):
    """Also if the user gives up at once, so that nothing else happens at that time, or tries again and fails again."""
    at = 1000
    for attempts in [[at], [at, at + 2]]:
        extra = [(minute, metric, 1) for minute in attempts for metric in BLIPS[blip]]
        extra += [(minute, "Requests", 1) for minute in attempts if "FailedRequests" in BLIPS[blip]]
        extra += [(minute, "Webhooks", 1) for minute in attempts if "RejectedWebhooks" in BLIPS[blip]]
        found = on(alarms, traffic(load, at + DAY, extra=extra), range(at, at + DAY, 1 if load == "five a day" else 13))
        assert found == [{}] * len(ADDITIONAL_WINDOWS)


@pytest.mark.parametrize("load", LOADS)
def test_a_single_lost_webhook_raises_no_alarm(alarms, load):
    at = 1000
    extra = [(at, metric, 1) for metric in ["SettledLate", f"{COMPLETED_BY} reconcile"]]
    found = on(alarms, traffic(load, at + DAY, extra=extra), range(at, at + DAY, 1 if load == "five a day" else 13))
    assert found == [{}] * len(ADDITIONAL_WINDOWS)


def test_a_service_within_its_objectives_raises_no_alarm(alarms):
    """At five resets a second, about one request in three seconds fails, and one user in fifty takes his time."""
    share = {metric: 7 / 1000 for metric in ["FailedRequests", "Logged circle_unavailable"]}
    series = traffic("five a second", DAY, Incident(HEALTHY | share | {"SettledLate": (0.02, 1)}))
    assert on(alarms, series, range(60, DAY, 7)) == [{}] * len(ADDITIONAL_WINDOWS)


@pytest.mark.parametrize("load", LOADS)
def test_the_alarms_on_objectives_end_with_the_incident(alarms, load):
    """The long window still has the failures, and the short one only what came after them."""
    for name, reset in [("ApiSlowBurnAlarm", failing()), ("SettledSlowBurnAlarm", late())]:
        series = traffic(load, 3 * DAY, Incident(reset), until=DAY)
        # Nothing tells that an outage is over before the next reset.
        over = DAY + round(max(LOADS[load], 120)) + 120
        for additional in ADDITIONAL_WINDOWS:
            assert alarms[name].is_on(series, DAY, additional)
            assert not any(alarms[name].is_on(series, minute, additional) for minute in range(over, 3 * DAY, 7))


def test_every_alarm_tells_of_an_incident(alarms):
    assert {alarm for incident in INCIDENTS.values() for alarm, _ in incident.told.values()} == set(alarms)


def test_the_incidents_use_the_metrics_of_the_template(alarms):
    """A metric with another name would never raise an alarm, and a test that expects none would not notice."""
    watched = {metric for alarm in alarms.values() for metric in alarm.metrics.values()}
    used = {metric for one in INCIDENTS.values() for metric in [*one.reset, *one.run, *one.check, *one.minute]}
    used |= {metric for metrics in BLIPS.values() for metric in metrics}
    assert used <= watched, used - watched


def test_alarms_stay_within_the_limits_of_cloudwatch(windows):
    for name, alarm in windows.items():
        assert alarm.period * alarm.periods <= DAY, name
        assert len(alarm.metrics) <= 9, name


def test_the_costs_count_the_alarms(alarms, windows):
    page = (ROOT / "docs/operations.md").read_text()
    table = page.split("| each month, used or not |")[1].split("\n\n")[0]
    metrics = sum(len(alarm.metrics) for alarm in windows.values())
    composite = sum(isinstance(alarm, CompositeAlarm) for alarm in alarms.values())
    arithmetic = f"{len(alarms)}, which watch {metrics} metrics: {metrics} × 0.10"
    cost = f"{metrics / 10 + composite / 2:.2f}"
    assert f"| alarms | {arithmetic}; of them {composite} composite: {composite} × 0.50 | {cost} |" in table


def test_the_costs_add_up():
    page = (ROOT / "docs/operations.md").read_text()

    def total(heading):
        *costs, total = re.findall(
            r"\| \*{0,2}([\d.]+)\*{0,2} \|$", page.split(heading)[1].split("\n\n")[0], re.MULTILINE
        )
        assert f"{sum(map(float, costs)):.2f}" == total
        return float(total)

    resets, unused = total("| for a million resets |"), total("| each month, used or not |")
    [(metrics, cost)] = re.findall(r"such as each .* of each .*: (\d+) × 0\.30 = ([\d.]+) a month", page)
    assert float(cost) == round(int(metrics) * 0.3, 2)
    assert f"About **{resets:.0f} US dollars for a million resets**" in page
    assert f"about **{unused:.0f} a month** for a stack that nobody uses" in page
    assert f"**{unused + float(cost):.0f} a month** for one that is used day and night" in page
