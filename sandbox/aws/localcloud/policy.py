"""What IAM policy documents say about one action on one resource. Pure: documents and facts in, a verdict out.

Follows the IAM User Guide, "Policy evaluation logic", for callers and resources of one account: an explicit Deny wins,
else an Allow of the caller's own policies or of the resource's, else no. An operator that is not known here makes a
statement count only when it denies, so that nothing is granted by accident. Left out: permission boundaries, session
policies, organisation policies, policy variables.
"""

import fnmatch
import ipaddress
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

Document = dict[str, Any]
Context = dict[str, str]


def allowed(
    identity: tuple[Document, ...],
    resource_policy: Document | None,
    caller_arns: tuple[str, ...],
    action: str,
    resource: str,
    context: Context,
) -> bool:
    """Returns whether a caller, known under `caller_arns`, may do `action` on `resource` (an ARN or `*`)."""
    verdicts = [effect for document in identity for effect in effects(document, action, resource, context)]
    if resource_policy is not None:
        for statement in statements(resource_policy):
            if not applies(statement, action, resource, context):
                continue
            if statement["Effect"] == "Deny" and names_caller(statement, caller_arns, account_counts=True):
                return False
            if statement["Effect"] == "Allow" and names_caller(statement, caller_arns, account_counts=False):
                verdicts.append("Allow")
    return "Deny" not in verdicts and "Allow" in verdicts


def effects(document: Document, action: str, resource: str, context: Context) -> list[str]:
    return [statement["Effect"] for statement in statements(document) if applies(statement, action, resource, context)]


def statements(document: Document) -> list[Document]:
    return as_list(document.get("Statement", []))


def applies(statement: Document, action: str, resource: str, context: Context) -> bool:
    if "NotAction" in statement:
        if any(matches(pattern.lower(), action.lower()) for pattern in as_list(statement["NotAction"])):
            return False
    elif not any(matches(pattern.lower(), action.lower()) for pattern in as_list(statement.get("Action", []))):
        return False
    if "NotResource" in statement:
        if any(matches(pattern, resource) for pattern in as_list(statement["NotResource"])):
            return False
    elif not any(matches(pattern, resource) for pattern in as_list(statement.get("Resource", []))):
        return False
    denies = statement["Effect"] == "Deny"
    return all(
        holds(operator, key, as_list(values), context, if_unknown=denies)
        for operator, block in statement.get("Condition", {}).items()
        for key, values in block.items()
    )


def names_caller(statement: Document, caller_arns: tuple[str, ...], account_counts: bool) -> bool:
    """Whether the statement's Principal covers the caller. Naming the account covers everybody in it only for a Deny:
    an Allow to the account merely lets the account's own policies decide."""
    if "NotPrincipal" in statement:
        return not principal_matches(statement["NotPrincipal"], caller_arns, account_counts=True)
    return principal_matches(statement.get("Principal"), caller_arns, account_counts)


def principal_matches(principal: Any, caller_arns: tuple[str, ...], account_counts: bool) -> bool:
    if principal == "*":
        return True
    names = as_list(principal.get("AWS", [])) if isinstance(principal, dict) else []
    account = caller_arns[0].split(":")[4]
    roots = (account, f"arn:aws:iam::{account}:root")
    return any(name == "*" or name in caller_arns or (account_counts and name in roots) for name in names)


def holds(operator: str, key: str, values: list[Any], context: Context, if_unknown: bool) -> bool:
    """Returns whether one condition holds. The case of keys does not matter; a missing key fails positive operators."""
    present = {name.lower(): value for name, value in context.items()}
    actual = present.get(key.lower())
    name = operator.removeprefix("ForAnyValue:").removeprefix("ForAllValues:")
    wanted = [str(value).lower() if isinstance(value, bool) else str(value) for value in values]
    if name == "Null":
        return any((actual is None) == (value.lower() == "true") for value in wanted)
    optional = name.endswith("IfExists")
    name = name.removesuffix("IfExists")
    if name not in COMPARISONS:
        return if_unknown
    if actual is None:
        return optional or operator.startswith("ForAllValues:") or name in NEGATIVE
    compare = COMPARISONS[name]
    outcomes = [compare(actual, value) for value in wanted]
    return all(outcomes) if name in NEGATIVE else any(outcomes)


def in_network(actual: str, network: str) -> bool:
    return ipaddress.ip_address(actual) in ipaddress.ip_network(network, strict=False)


COMPARISONS: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda actual, value: actual == value,
    "StringNotEquals": lambda actual, value: actual != value,
    "StringEqualsIgnoreCase": lambda actual, value: actual.lower() == value.lower(),
    "StringNotEqualsIgnoreCase": lambda actual, value: actual.lower() != value.lower(),
    "StringLike": lambda actual, value: matches(value, actual),
    "StringNotLike": lambda actual, value: not matches(value, actual),
    "ArnEquals": lambda actual, value: matches(value, actual),
    "ArnLike": lambda actual, value: matches(value, actual),
    "ArnNotEquals": lambda actual, value: not matches(value, actual),
    "ArnNotLike": lambda actual, value: not matches(value, actual),
    "Bool": lambda actual, value: actual.lower() == value.lower(),
    "NumericEquals": lambda actual, value: float(actual) == float(value),
    "NumericLessThan": lambda actual, value: float(actual) < float(value),
    "NumericLessThanEquals": lambda actual, value: float(actual) <= float(value),
    "NumericGreaterThan": lambda actual, value: float(actual) > float(value),
    "NumericGreaterThanEquals": lambda actual, value: float(actual) >= float(value),
    "IpAddress": in_network,
    "NotIpAddress": lambda actual, value: not in_network(actual, value),
}
NEGATIVE = {name for name in COMPARISONS if "Not" in name}


def matches(pattern: str, text: str) -> bool:
    """IAM's wildcards: `*` for any characters, `?` for one; brackets are ordinary characters."""
    return compiled(pattern).match(text) is not None


@lru_cache(maxsize=1024)
def compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(pattern.replace("[", "[[]")))


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
