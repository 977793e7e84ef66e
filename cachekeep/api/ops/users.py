"""Users: create, describe, modify, delete. What they may do is enforced by every engine of the groups that they are in.

Rules and wording: botocore elasticache 2015-02-02 (shapes); ElastiCache guide, "Role-Based Access Control".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cachekeep.api import choose, present
from cachekeep.api.context import Call
from cachekeep.api.entry import Entry, Truth
from cachekeep.api.paging import page
from cachekeep.api.token_users import prepare_tokens
from cachekeep.api.user_lookup import check_fits_group, check_versions, find_user, minimum_version
from cachekeep.domain.access import is_reserved, password_digest
from cachekeep.domain.engine import Engine
from cachekeep.domain.events import Event, SourceType
from cachekeep.domain.faults import Fault, invalid_combination, invalid_value
from cachekeep.domain.users import DEFAULT_USER, Authentication, User, UserGroup, UserStatus, builtin_default
from cachekeep.plan.access_string import check_access_string

MOST_USERS = 2000
MOST_PASSWORDS = 2
_LEAST, _LONGEST = 16, 128
_LONGEST_ID = 40
_LONGEST_NAME = 120
_ID = re.compile(r"[A-Za-z][A-Za-z0-9-]*\Z")
_USER_NAME = re.compile(r"[\x21-\x7e]+\Z")
_TYPES = {
    "password": Authentication.PASSWORD,
    "no-password-required": Authentication.NO_PASSWORD,
    "iam": Authentication.IAM,
}


@dataclass(frozen=True)
class _Proof:
    """How a request says that a user proves who it is."""

    kind: Authentication
    passwords: tuple[str, ...] = ()


def create_user(call: Call) -> present.Shape:
    user_id = checked_id("UserId", call.params["UserId"])
    store = call.services.store
    if user_id == DEFAULT_USER or store.get(User, call.region, user_id) is not None:
        raise Fault("UserAlreadyExists", f"User {user_id} already exists.")
    name = _user_name(call.params["UserName"])
    engine = checked_engine(call.params["Engine"])
    text = _access_string(call, call.params["AccessString"])
    proof = _proof(call)
    if proof is None:
        raise invalid_combination(
            "A user needs Passwords, NoPasswordRequired, or an AuthenticationMode that says how it logs in."
        )
    _check_proof(user_id, name, engine, proof)
    prepare_tokens(call, proof.kind)
    tags = choose.choose_tags(call)
    if len(store.all(User, call.region)) >= MOST_USERS:
        raise Fault("UserQuotaExceeded", f"A region can have at most {MOST_USERS} users.")
    user = User(
        call.region,
        user_id,
        name,
        engine.value,
        text,
        proof.kind,
        proof.passwords,
        created_at=call.services.clock.now(),
        tags=tags,
    )
    with store.transaction() as work:
        work.insert(user)
        work.add_event(event(call, SourceType.USER, user_id, f"User {user_id} created"))
    return shape_of(call, user, [])


def describe_users(call: Call) -> present.Shape:
    groups = call.services.store.all(UserGroup, call.region)
    wanted = call.text("UserId")
    if wanted is not None:
        found = [find_user(call, wanted)]
    else:
        found = sorted((builtin_default(call.region), *call.services.store.all(User, call.region)), key=lambda u: u.id)
    engine = call.text("Engine")
    if engine is not None:
        found = [user for user in found if user.engine == engine.lower()]
    for one in call.params.get("Filters") or []:
        found = [user for user in found if _passes(user, one, groups)]
    shown, marker = page(call, found, lambda user: user.id)
    return {"Users": [shape_of(call, user, groups) for user in shown], "Marker": marker}


def _passes(user: User, one: Mapping[str, object], groups: Sequence[UserGroup]) -> bool:
    """Raises InvalidParameterCombination for a filter that there is none of."""
    values = one.get("Values")
    wanted = {str(value).lower() for value in values} if isinstance(values, list) else set()
    has: dict[str, set[str]] = {
        "user-id": {user.id},
        "user-name": {user.name.lower()},
        "user-group-id": {g.id for g in groups if user.id in g.user_ids},
        "engine": {user.engine},
        "status": {user.status.value},
    }
    has["user-group"] = has["user-group-id"]
    name = str(one.get("Name", "")).lower()
    if name not in has:
        raise invalid_combination(f"There is no filter {name[:40]!r}; there are {', '.join(sorted(has))}.")
    return not wanted.isdisjoint(has[name])


def modify_user(call: Call) -> present.Shape:
    user = find_user(call, call.params["UserId"])
    if user.id == DEFAULT_USER:
        raise invalid_value("The default user cannot be modified; a user of your own can have the name default.")
    _require_active(user)
    text = user.access_string
    given, appended = call.text("AccessString"), call.text("AppendAccessString")
    if given is not None and appended is not None:
        raise invalid_combination("AccessString and AppendAccessString cannot be used together.")
    if given is not None or appended is not None:
        text = _access_string(call, given if given is not None else f"{text} {appended}")
    engine = checked_engine(call.text("Engine") or user.engine)
    proof = _proof(call) or _Proof(user.authentication, user.passwords)
    _check_proof(user.id, user.name, engine, proof)
    prepare_tokens(call, proof.kind)
    new = replace(user, access_string=text, engine=engine.value, authentication=proof.kind, passwords=proof.passwords)
    with call.services.store.transaction() as work:
        for group in (g for g in work.all(UserGroup, call.region) if user.id in g.user_ids):
            check_fits_group(new, group.engine)
            check_versions(call, work, group, [new])
        changed = replace(new, status=UserStatus.MODIFYING)
        work.replace(user, changed)
    return shape_of(call, changed, call.services.store.all(UserGroup, call.region))


def delete_user(call: Call) -> present.Shape:
    user = find_user(call, call.params["UserId"])
    store = call.services.store
    groups = [g for g in store.all(UserGroup, call.region) if user.id in g.user_ids]
    if user.name == DEFAULT_USER and groups:
        raise Fault(
            "DefaultUserAssociatedToUserGroup",
            f"The default user {user.id} is associated to the user group {groups[0].id} and cannot be deleted.",
        )
    if user.id == DEFAULT_USER:
        raise invalid_value("The default user cannot be deleted.")
    _require_active(user)
    for group in groups:
        if group.status is not UserStatus.ACTIVE:
            raise Fault("InvalidUserState", f"User {user.id} is in the user group {group.id}, which is changing.")
    gone = replace(user, status=UserStatus.DELETING)
    with store.transaction() as work:
        for group in groups:
            rest = tuple(one for one in group.user_ids if one != user.id)
            work.replace(group, replace(group, user_ids=rest, before=group.user_ids, status=UserStatus.MODIFYING))
        work.replace(user, gone)
    return shape_of(call, gone, groups)


def _require_active(user: User) -> None:
    if user.status is not UserStatus.ACTIVE:
        raise Fault("InvalidUserState", f"User {user.id} is not in active state: it is {user.status.value}.")


def event(call: Call, kind: SourceType, name: str, text: str) -> Event:
    return Event(call.services.clock.now(), call.region, kind, name, text)


def checked_id(parameter: str, text: str) -> str:
    """In the lower case in which it is kept. Raises InvalidParameterValue."""
    if len(text) > _LONGEST_ID or not _ID.match(text):
        raise invalid_value(
            f"{parameter} must begin with a letter, have letters, digits and hyphens only, and at most "
            f"{_LONGEST_ID} characters: {text[:60]!r}."
        )
    return text.lower()


def checked_engine(text: str) -> Engine:
    """Raises InvalidParameterValue."""
    if text.lower() not in (Engine.VALKEY.value, Engine.REDIS.value):
        raise invalid_value(f"Engine must be valkey or redis, not {text[:40]!r}.")
    return Engine(text.lower())


def _user_name(text: str) -> str:
    if len(text) > _LONGEST_NAME or not _USER_NAME.match(text):
        raise invalid_value(f"UserName must have 1 to {_LONGEST_NAME} printable characters without spaces.")
    if is_reserved(text):
        raise invalid_value(f"The user name {text} is reserved for the service.")
    return text


def _access_string(call: Call, text: str) -> str:
    try:
        check_access_string(text, call.services.catalog.commands)
    except ValueError as error:
        raise invalid_value(f"Invalid access string: {error}.") from None
    return " ".join(text.split())


def _proof(call: Call) -> _Proof | None:
    """None when the request says nothing of it. Passwords are never repeated in an answer."""
    mode = call.params.get("AuthenticationMode")
    loose = call.params.get("Passwords")
    free = call.flag("NoPasswordRequired")
    if mode is not None:
        if loose or free is not None:
            raise invalid_combination("AuthenticationMode excludes Passwords and NoPasswordRequired.")
        kind = _TYPES.get(str(mode.get("Type", "")).lower())
        if kind is None:
            raise invalid_value(f"The Type of AuthenticationMode must be one of {', '.join(_TYPES)}.")
        return _Proof(kind, _passwords(mode.get("Passwords") or (), kind))
    if free and loose:
        raise invalid_combination("NoPasswordRequired and Passwords exclude each other.")
    if free:
        return _Proof(Authentication.NO_PASSWORD)
    return _Proof(Authentication.PASSWORD, _passwords(loose, Authentication.PASSWORD)) if loose else None


def _passwords(given: Sequence[str], kind: Authentication) -> tuple[str, ...]:
    if kind is not Authentication.PASSWORD:
        if given:
            raise invalid_combination(f"Passwords are not used with the authentication type {kind.value}.")
        return ()
    if not 1 <= len(given) <= MOST_PASSWORDS:
        raise invalid_value(f"A user has 1 or {MOST_PASSWORDS} passwords, and {len(given)} were given.")
    for one in given:
        if not _LEAST <= len(one) <= _LONGEST or not (one.isascii() and one.isprintable()):
            raise invalid_value(f"A password must have {_LEAST} to {_LONGEST} printable characters.")
    return tuple(dict.fromkeys(map(password_digest, given)))


def _check_proof(user_id: str, name: str, engine: Engine, proof: _Proof) -> None:
    if proof.kind is Authentication.IAM and user_id != name:
        raise invalid_combination("With IAM authentication, user id and user name must be identical.")
    if proof.kind is Authentication.NO_PASSWORD and engine is Engine.VALKEY:
        raise invalid_combination("A user of the engine valkey needs a password or IAM authentication.")


def shape_of(call: Call, user: User, groups: Sequence[UserGroup]) -> present.Shape:
    """User of the model; never anything of a password but how many there are."""
    authentication: present.Shape = {"Type": user.authentication.value}
    if user.authentication is Authentication.PASSWORD:
        authentication["PasswordCount"] = len(user.passwords)
    return {
        "UserId": user.id,
        "UserName": user.name,
        "Status": user.status.value,
        "Engine": user.engine,
        "MinimumEngineVersion": minimum_version(call, user).short,
        "AccessString": user.access_string,
        "UserGroupIds": [group.id for group in groups if user.id in group.user_ids],
        "Authentication": authentication,
        "ARN": call.arn("user", user.id),
    }


_PROOF = "tests/scenarios/test_users.py::"
OPERATIONS: Mapping[str, Entry] = {
    "CreateUser": Entry(
        create_user,
        Truth.REAL,
        _PROOF + "test_users_of_a_group_are_enforced_on_every_node",
        "Passwords and access strings are enforced by the engines' ACL; a user of type iam gets in by token only.",
    ),
    "DescribeUsers": Entry(describe_users, Truth.REAL, _PROOF + "test_users_are_described_and_filtered"),
    "ModifyUser": Entry(
        modify_user,
        Truth.REAL,
        _PROOF + "test_a_changed_user_is_cut_off_on_every_node",
        "Live; connections that lose a right are cut.",
    ),
    "DeleteUser": Entry(delete_user, Truth.REAL, _PROOF + "test_a_deleted_user_is_gone_everywhere"),
}
