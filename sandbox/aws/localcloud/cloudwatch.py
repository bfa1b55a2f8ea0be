"""The credits of burstable instances, as CloudWatch reports them: one point in five minutes, while the instance runs.

Only `CPUCreditBalance` is played, and only as JSON. A machine of the sandbox counts as one that has run for days, or a
test would have to wait for hours: its balance is full unless the knob `cpu_credits` says otherwise.
Sources: EC2 User Guide, "Key concepts for burstable performance instances"; CloudWatch API Reference, `GetMetricData`.
"""

import time
from datetime import UTC, datetime
from typing import Any

from moto.cloudwatch.models import CloudWatchBackend
from moto.ec2.models.instances import Instance

from . import lifecycle
from .knobs import KNOBS

PERIOD_S = 300
# Size -> credits that are earned in an hour. The most that is kept is what a day earns.
EARNED = {"nano": 6, "micro": 12, "small": 24, "medium": 24, "large": 36, "xlarge": 96, "2xlarge": 192}
EARNED_T2 = {"nano": 3, "micro": 6, "small": 12, "medium": 24, "large": 36, "xlarge": 54, "2xlarge": 81.6}
EARNING = {"t2": EARNED_T2, "t3": EARNED, "t3a": EARNED, "t4g": EARNED}

get_metric_data_in_moto = CloudWatchBackend.get_metric_data


def install() -> None:
    """Answers for the credits, which moto does not know, and leaves other figures to moto."""
    CloudWatchBackend.get_metric_data = get_metric_data


def get_metric_data(
    self: CloudWatchBackend, queries: list[dict[str, Any]], start_time: datetime, end_time: datetime, scan_by: str
) -> list[dict[str, Any]]:
    results = []
    for query in queries:
        if not is_of_credits(query):
            results += get_metric_data_in_moto(self, [query], start_time, end_time, scan_by)
            continue
        points = credits_between(instance_of(query), start_time.timestamp(), end_time.timestamp())
        if scan_by != "TimestampAscending":
            points.reverse()
        results.append(
            {
                "id": query["Id"],
                "label": "CPUCreditBalance",
                "timestamps": [datetime.fromtimestamp(at, UTC) for at, _ in points],
                "values": [balance for _, balance in points],
                "status_code": "Complete",
            }
        )
    return results


def is_of_credits(query: dict[str, Any]) -> bool:
    metric = query.get("MetricStat", {}).get("Metric", {})
    return (metric.get("Namespace"), metric.get("MetricName")) == ("AWS/EC2", "CPUCreditBalance")


def instance_of(query: dict[str, Any]) -> Instance | None:
    """The instance that the query names; none if it names anything else besides."""
    dimensions = query["MetricStat"]["Metric"].get("Dimensions", [])
    if [dimension["Name"] for dimension in dimensions] != ["InstanceId"]:
        return None
    return lifecycle.find(dimensions[0]["Value"])


def credits_between(instance: Instance | None, start: float, end: float) -> list[tuple[int, float]]:
    """The points of a running instance, the oldest first; none for a type without credits."""
    if instance is None or instance.state != "running":
        return []
    family, _, size = instance.instance_type.partition(".")
    earned = EARNING.get(family, {}).get(size)
    if earned is None:
        return []
    most = earned * 24
    left, an_hour = KNOBS.settings.cpu_credits or (most, 0)
    now = time.time()
    first = -int(-start // PERIOD_S) * PERIOD_S
    ages = ((at, (now - at) / 3600) for at in range(first, int(min(end, now)), PERIOD_S))
    return [(at, min(max(left - an_hour * age, 0.0), float(most))) for at, age in ages]
