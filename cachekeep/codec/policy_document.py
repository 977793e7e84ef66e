"""Policy documents (JSON) -> domain.policy. Whatever is outside the subset is refused here, never ignored. Pure.

The subset: Version 2012-10-17; Statement with Effect, Action or NotAction, Resource or NotResource, and Condition with
the operators of domain.policy.Operator on aws:RequestedRegion, aws:SourceIp, aws:ResourceTag/KEY, aws:RequestTag/KEY.
Id and Sid may stand there. Actions are of `elasticache`, `cloudwatch`, `tag` and `cachekeep` (our
own pages).
Source: IAM user guide, "IAM JSON policy elements reference"; 6144 characters is IAM's limit for a managed policy.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from cachekeep.codec.aws_model import load_service
from cachekeep.domain.policy import (
    REGION_KEY,
    REQUEST_TAG,
    RESOURCE_TAG,
    SOURCE_KEY,
    Condition,
    Effect,
    Operator,
    Policy,
    Statement,
    matches,
)

VERSION = "2012-10-17"
MOST_CHARACTERS = 6144
CONNECT = "elasticache:Connect"
# The prefix of actions -> the service in the scope of credentials, whose model has the operations.
_MODELS = {"elasticache": "elasticache", "cloudwatch": "monitoring", "tag": "tagging"}
_OWN_ACTION = re.compile(r"cachekeep:[A-Za-z*?]+")
_STATEMENT = frozenset({"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"})
_KEYS = {key.lower(): key for key in (REGION_KEY, SOURCE_KEY)}


class PolicyError(ValueError):
    """The document is outside the subset; the text says what and where."""


def read_policy(text: str) -> Policy:
    """Raises PolicyError."""
    if len(text) > MOST_CHARACTERS:
        raise PolicyError(f"a policy has at most {MOST_CHARACTERS} characters, not {len(text)}")
    try:
        document = json.loads(text, object_pairs_hook=_once)
    except PolicyError:
        raise
    except (ValueError, RecursionError) as error:
        raise PolicyError(f"the policy is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise PolicyError("the policy must be a JSON object")
    unknown = sorted(set(document) - {"Version", "Id", "Statement"})
    if unknown:
        raise PolicyError(f"the policy has {unknown[0]!r}, which is not understood here")
    if document.get("Version") != VERSION:
        raise PolicyError(f"Version must be {VERSION!r}")
    given = document.get("Statement")
    statements = given if isinstance(given, list) else [given]
    if not statements:
        raise PolicyError("the policy has no Statement")
    return Policy(tuple(_statement(one, f"statement {n}") for n, one in enumerate(statements, 1)))


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Of a name that stands twice, readers disagree which one counts."""
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        raise PolicyError(f"{next(name for name in names if names.count(name) > 1)!r} stands twice")
    return made


def _statement(given: object, where: str) -> Statement:
    if not isinstance(given, dict):
        raise PolicyError(f"{where} must be an object")
    unknown = sorted(set(given) - _STATEMENT)
    if unknown:
        raise PolicyError(f"{where} has {unknown[0]!r}, which is not understood here")
    if given.get("Effect") not in tuple(Effect):
        raise PolicyError(f"{where}: Effect must be Allow or Deny")
    actions, not_actions = _either(given, "Action", where)
    resources, not_resources = _either(given, "Resource", where)
    for action in actions:
        _check_action(action, where)
    for resource in resources:
        _check_resource(resource, where)
    conditions = _conditions(given["Condition"], where) if "Condition" in given else ()
    return Statement(Effect(given["Effect"]), actions, resources, conditions, not_actions, not_resources)


def _either(given: Mapping[str, object], name: str, where: str) -> tuple[tuple[str, ...], bool]:
    """The list of Action or of NotAction, and whether it was the latter."""
    if (name in given) == (f"Not{name}" in given):
        raise PolicyError(f"{where} needs either {name} or Not{name}")
    negated = f"Not{name}" in given
    which = f"Not{name}" if negated else name
    return _texts(given[which], f"{where}: {which}"), negated


def _texts(given: object, where: str) -> tuple[str, ...]:
    found = given if isinstance(given, list) else [given]
    if not found or not all(isinstance(one, str) and one for one in found):
        raise PolicyError(f"{where} must be a text, or a list of texts")
    texts = tuple(str(one) for one in found)
    if any("${" in text for text in texts):
        raise PolicyError(f"{where}: policy variables (${{...}}) are not understood here")
    return texts


def _check_action(action: str, where: str) -> None:
    """It must mean something: a mistyped deny would let everything through."""
    if action == "*" or _OWN_ACTION.fullmatch(action):
        return
    prefix, _, name = action.partition(":")
    model = _MODELS.get(prefix.lower())
    if model is None or not name:
        known = ", ".join([*_MODELS, "cachekeep"])
        raise PolicyError(f"{where}: {action!r} is no action of {known}")
    names = {*load_service(model).operations, *(["Connect"] if model == "elasticache" else [])}
    if not any(matches(name.lower(), known.lower()) for known in names):
        raise PolicyError(f"{where}: {action!r} matches no operation")


def _check_resource(resource: str, where: str) -> None:
    if resource != "*" and (not resource.startswith("arn:") or resource.count(":") < 5):
        raise PolicyError(f"{where}: {resource!r} must be '*', or an ARN (wildcards may stand in it)")


def _conditions(given: object, where: str) -> tuple[Condition, ...]:
    if not isinstance(given, dict) or not given:
        raise PolicyError(f"{where}: Condition must be an object")
    made = []
    for operator, tests in given.items():
        if operator not in tuple(Operator):
            raise PolicyError(f"{where}: {operator!r} is none of {', '.join(Operator)}")
        if not isinstance(tests, dict) or not tests:
            raise PolicyError(f"{where}: {operator} must be an object of keys and values")
        for key, values in tests.items():
            try:
                texts = _texts(values, f"{where}: {operator} {key}")
                made.append(Condition(Operator(operator), _condition_key(key, where), texts))
            except PolicyError:
                raise
            except ValueError as error:
                raise PolicyError(f"{where}: {error}") from None
    return tuple(made)


def _condition_key(key: str, where: str) -> str:
    """As it is written here; IAM reads the names of keys in any case, but not the tags behind them."""
    if key.lower() in _KEYS:
        return _KEYS[key.lower()]
    for prefix in (RESOURCE_TAG, REQUEST_TAG):
        if key.lower().startswith(prefix.lower()) and len(key) > len(prefix):
            return prefix + key[len(prefix) :]
    known = f"{REGION_KEY}, {SOURCE_KEY}, {RESOURCE_TAG}KEY, {REQUEST_TAG}KEY"
    raise PolicyError(f"{where}: the condition key {key!r} is none of {known}")
