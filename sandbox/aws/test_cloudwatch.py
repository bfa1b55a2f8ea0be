"""The credits of burstable instances, as CloudWatch reports them."""

import json
import time
import urllib.error
import urllib.request
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from harness import CloudTest

DENIED = "AccessDeniedException"


class Credits(CloudTest):
    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(self.knob, [])

    def knob(self, credits: list[float]) -> None:
        self.cloud.supervisor("POST", "knobs", {"cpu_credits": credits})

    def asked(self, *instances: str, keys: tuple[str, str] | None = None) -> list[dict[str, Any]]:
        """Asks for the last three hours, as JSON."""
        now = int(time.time())
        query = {"StartTime": now - 3 * 3600, "EndTime": now, "MetricDataQueries": list(map(one, instances))}
        headers = {
            "Content-Type": "application/x-amz-json-1.0",
            "X-Amz-Target": "GraniteServiceVersion20100801.GetMetricData",
        }
        request = AWSRequest("POST", f"{self.cloud.endpoint}/", headers, json.dumps(query).encode())
        SigV4Auth(Credentials(*(keys or self.cloud.keys)), "monitoring", "us-east-1").add_auth(request)
        sent = urllib.request.Request(request.url, request.body, dict(request.headers.items()))
        with urllib.request.urlopen(sent, timeout=30) as answer:
            return json.load(answer)["MetricDataResults"]

    def test_a_running_host_has_a_point_in_five_minutes_the_newest_first(self) -> None:
        instance = self.launched()
        found = self.asked(instance, "i-0000000000000000f")
        self.assertEqual(found[0]["Id"], instance.replace("-", "_"))
        points = found[0]["Timestamps"]
        self.assertIn(len(points), (35, 36))
        self.assertEqual({before - after for before, after in zip(points, points[1:], strict=False)}, {300})
        self.assertEqual(set(found[0]["Values"]), {288})
        self.assertEqual(found[1]["Values"], [])

    def test_the_balance_falls_as_the_knob_says_and_never_below_zero(self) -> None:
        instance = self.launched()
        self.knob([12, -24])
        values = self.asked(instance)[0]["Values"]
        self.assertAlmostEqual(values[0], 12, delta=3)
        self.assertAlmostEqual(values[12] - values[0], 24, delta=0.1)
        self.knob([1, 24])
        self.assertEqual(self.asked(instance)[0]["Values"][-1], 0)

    def test_a_stopped_host_has_no_point(self) -> None:
        instance = self.launched()
        self.ec2.stop_instances(InstanceIds=[instance])
        self.acknowledge(instance, "stopped")
        self.assertEqual(self.asked(instance)[0]["Values"], [])

    def test_only_who_may_ask_is_answered(self) -> None:
        statement = {"Effect": "Allow", "Action": "ec2:DescribeInstances", "Resource": "*"}
        with self.assertRaises(urllib.error.HTTPError) as refused:
            self.asked(self.launched(), keys=self.user_with(statement))
        self.assertEqual(json.load(refused.exception)["__type"], DENIED)


def one(instance: str) -> dict[str, Any]:
    metric = {
        "Namespace": "AWS/EC2",
        "MetricName": "CPUCreditBalance",
        "Dimensions": [{"Name": "InstanceId", "Value": instance}],
    }
    return {"Id": instance.replace("-", "_"), "MetricStat": {"Metric": metric, "Period": 300, "Stat": "Average"}}
