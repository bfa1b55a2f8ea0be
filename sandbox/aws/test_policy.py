"""Policy evaluation and address pools over many cases, without a server."""

import ipaddress
import unittest
from typing import Any

from localcloud.policy import allowed
from localcloud.pools import Exhausted, Pool

ME = ("arn:aws:iam::123456789012:user/me",)
OBJECT = "arn:aws:s3:::bucket/backups/env/1"


def says(*statements: dict[str, Any], action: str = "s3:PutObject", resource: str = OBJECT, **context: str) -> bool:
    keys = {name.replace("__", ":").replace("_", "-"): value for name, value in context.items()}
    return allowed(({"Statement": list(statements)},), None, ME, action, resource, keys)


def statement(effect: str = "Allow", action: Any = "s3:*", resource: Any = "*", **others: Any) -> dict[str, Any]:
    return {"Effect": effect, "Action": action, "Resource": resource} | others


def if_(operator: str, key: str, value: Any) -> dict[str, Any]:
    return {"Condition": {operator: {key: value}}}


class Policies(unittest.TestCase):
    def test_actions_and_resources(self) -> None:
        for granted, given in (
            (True, statement()),
            (True, statement(action="S3:putobject")),
            (True, statement(action=["ec2:*", "s3:Put*"])),
            (False, statement(action="s3:Get*")),
            (True, statement(resource="arn:aws:s3:::bucket/backups/env/*")),
            (True, statement(resource=["arn:aws:s3:::other/*", "arn:aws:s3:::bucket/backups/env/?"])),
            (False, statement(resource="arn:aws:s3:::bucket/backups/environment/*")),
            (False, statement(resource="arn:aws:s3:::bucket/BACKUPS/env/*")),
            (False, statement(resource="arn:aws:s3:::bucket")),
            (False, statement(resource="arn:aws:s3:::bucket/backups/env/[0-9]")),
            (True, {"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}),
            (False, {"Effect": "Allow", "NotAction": "s3:*", "Resource": "*"}),
            (False, {"Effect": "Allow", "Action": "*", "NotResource": "arn:aws:s3:::bucket/*"}),
        ):
            with self.subTest(given=given):
                self.assertEqual(says(given), granted)

    def test_a_deny_wins_in_any_order(self) -> None:
        allow, deny = statement(), statement("Deny", "s3:PutObject")
        self.assertFalse(says(allow, deny))
        self.assertFalse(says(deny, allow))
        self.assertTrue(says(allow, deny, action="s3:GetObject"))

    def test_conditions(self) -> None:
        for granted, condition, context in (
            (True, if_("Null", "s3:if-none-match", "false"), {"s3__if_none_match": "*"}),
            (False, if_("Null", "s3:if-none-match", False), {}),
            (True, if_("Null", "s3:if-none-match", "true"), {}),
            (True, if_("Bool", "aws:SecureTransport", "true"), {"aws__SecureTransport": "true"}),
            (False, if_("Bool", "aws:SecureTransport", True), {"aws__SecureTransport": "false"}),
            (True, if_("StringEquals", "s3:prefix", ["a", "b"]), {"s3__prefix": "b"}),
            (False, if_("StringEquals", "s3:prefix", "a"), {}),
            (True, if_("StringEqualsIfExists", "s3:prefix", "a"), {}),
            (True, if_("StringLike", "s3:prefix", "backups/*"), {"s3__prefix": "backups/env"}),
            (True, if_("StringNotEquals", "s3:prefix", ["a", "b"]), {"s3__prefix": "c"}),
            (False, if_("StringNotEquals", "s3:prefix", ["a", "b"]), {"s3__prefix": "a"}),
            (True, if_("StringNotEquals", "s3:prefix", "a"), {}),
            (True, if_("IpAddress", "aws:SourceIp", "10.77.0.0/16"), {"aws__SourceIp": "10.77.16.4"}),
            (False, if_("NotIpAddress", "aws:SourceIp", "10.77.0.0/16"), {"aws__SourceIp": "10.77.16.4"}),
            (True, if_("NumericLessThanEquals", "s3:max-keys", "10"), {"s3__max_keys": "9"}),
            (False, if_("SomethingNew", "s3:prefix", "a"), {"s3__prefix": "a"}),
        ):
            with self.subTest(condition=condition, context=context):
                self.assertEqual(says(statement(**condition), **context), granted)

    def test_an_unknown_condition_denies_rather_than_grants(self) -> None:
        self.assertFalse(says(statement(), statement("Deny", **if_("SomethingNew", "k", "v"))))

    def test_a_resource_policy_names_whom_it_lets_in(self) -> None:
        for granted, principal in (
            (True, "*"),
            (True, {"AWS": "*"}),
            (True, {"AWS": ["arn:aws:iam::123456789012:user/you", ME[0]]}),
            (False, {"AWS": "arn:aws:iam::123456789012:user/you"}),
            (False, {"AWS": "123456789012"}),  # leaves it to the account's own policies
            (False, {"Service": "ec2.amazonaws.com"}),
        ):
            with self.subTest(principal=principal):
                document = {"Statement": statement(Principal=principal)}
                self.assertEqual(allowed((), document, ME, "s3:PutObject", OBJECT, {}), granted)

    def test_a_resource_policy_that_denies_the_account_denies_everybody_in_it(self) -> None:
        document = {"Statement": statement("Deny", Principal={"AWS": "arn:aws:iam::123456789012:root"})}
        self.assertFalse(allowed(({"Statement": statement()},), document, ME, "s3:PutObject", OBJECT, {}))


class Pools(unittest.TestCase):
    def test_an_address_has_one_holder_and_is_used_again_last(self) -> None:
        pool = Pool(ipaddress.ip_network("10.77.16.0/29"), skip=3)
        self.assertEqual([pool.take(), pool.take()], ["10.77.16.4", "10.77.16.5"])
        pool.give_back("10.77.16.4")
        pool.give_back("10.77.16.4")
        self.assertFalse(pool.take_exactly("10.77.16.5"))
        self.assertEqual([pool.take(), pool.take()], ["10.77.16.6", "10.77.16.4"])
        with self.assertRaises(Exhausted):
            pool.take()
