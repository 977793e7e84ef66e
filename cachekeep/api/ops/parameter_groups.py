"""Parameter groups: create, describe, modify, reset, delete; the parameters of groups and families.

A changed group wakes every cluster that uses it; control applies the values (CONFIG SET), and what needs a restart
shows as `pending-reboot` until the node is rebooted.
"""

from __future__ import annotations

from dataclasses import replace

from cachekeep.api import choose, present
from cachekeep.api.context import Call
from cachekeep.api.paging import page
from cachekeep.api.secondaries import fan_out, refuse_copy
from cachekeep.domain.cache_cluster import CacheCluster
from cachekeep.domain.events import Event, SourceType
from cachekeep.domain.faults import Fault, invalid_combination, invalid_value
from cachekeep.domain.ids import resource_id
from cachekeep.domain.parameters import Family, ParameterGroup
from cachekeep.plan.parameters import FIXED_IN_USE, why_not_allowed, why_not_together

LONGEST_NAME = 255
# AWS's limit per request (CacheParameterGroup: "a maximum of 20 parameters may be modified in a single request").
MOST_CHANGES = 20


def create_cache_parameter_group(call: Call) -> present.Shape:
    name = resource_id("CacheParameterGroupName", call.params["CacheParameterGroupName"], LONGEST_NAME)
    services = call.services
    if name in services.catalog.default_groups or services.store.get(ParameterGroup, call.region, name):
        raise Fault("CacheParameterGroupAlreadyExists", f"CacheParameterGroup {name} already exists.")
    family = _family(call, call.params["CacheParameterGroupFamily"])
    if len(services.store.all(ParameterGroup, call.region)) >= services.quotas.parameter_groups:
        most = services.quotas.parameter_groups
        raise Fault("CacheParameterGroupQuotaExceeded", f"A region can have at most {most} parameter groups.")
    group = ParameterGroup(call.region, name, family.name, call.params["Description"], tags=choose.choose_tags(call))
    with services.store.transaction() as work:
        work.insert(group)
        work.add_event(_event(call, name, f"Created parameter group {name}"))
    return {"CacheParameterGroup": present.parameter_group(call, group)}


def _family(call: Call, name: str) -> Family:
    family = call.services.catalog.families.get(name.lower())
    if family is None:
        known = ", ".join(sorted(call.services.catalog.families))
        raise invalid_value(f"CacheParameterGroupFamily {name[:60]} is not a valid parameter group family: {known}.")
    return family


def _event(call: Call, name: str, message: str) -> Event:
    return Event(call.services.clock.now(), call.region, SourceType.CACHE_PARAMETER_GROUP, name, message)


def describe_cache_parameter_groups(call: Call) -> present.Shape:
    name = call.text("CacheParameterGroupName")
    if name is not None:
        groups = [call.parameter_group(name)]
    else:
        groups = [*call.services.catalog.default_groups.values(), *call.services.store.all(ParameterGroup, call.region)]
    shown, marker = page(call, sorted(groups, key=lambda g: g.name), lambda g: g.name)
    return {"Marker": marker, "CacheParameterGroups": [present.parameter_group(call, g) for g in shown]}


def describe_cache_parameters(call: Call) -> present.Shape:
    group = call.parameter_group(call.params["CacheParameterGroupName"])
    return _parameters(call, group)


def describe_engine_default_parameters(call: Call) -> present.Shape:
    family = _family(call, call.params["CacheParameterGroupFamily"])
    shape = _parameters(call, ParameterGroup(call.region, "", family.name, ""))
    marker = shape.pop("Marker", None)
    return {"EngineDefaults": {"CacheParameterGroupFamily": family.name, "Marker": marker, **shape}}


def _parameters(call: Call, group: ParameterGroup) -> present.Shape:
    source = call.text("Source")
    if source not in (None, "", "user", "system", "engine-default"):
        raise invalid_value(f"Invalid source {source[:40]!r}. Valid values are user, system and engine-default.")
    # AWS marks the service's own values `system`; `engine-default` are those nobody changed, which is the same here.
    wanted = {"engine-default": "system", "": None}.get(source or "", source)
    family = call.services.catalog.families[group.family]
    shape = present.parameters(group, family, wanted, call.services.catalog.node_types)
    both = [("Parameters", p) for p in shape["Parameters"]]
    both += [("CacheNodeTypeSpecificParameters", p) for p in shape["CacheNodeTypeSpecificParameters"]]
    shown, marker = page(call, sorted(both, key=lambda e: e[1]["ParameterName"]), lambda e: e[1]["ParameterName"])
    return {
        "Marker": marker,
        "Parameters": [p for kind, p in shown if kind == "Parameters"],
        "CacheNodeTypeSpecificParameters": [p for kind, p in shown if kind != "Parameters"],
    }


def _own_group(call: Call, name: str, done: str) -> ParameterGroup:
    """A group that may be changed. Raises CacheParameterGroupNotFound, or InvalidParameterValue for a default one."""
    group = call.parameter_group(name)
    if group.is_default:
        raise invalid_value(f"Default CacheParameterGroup {group.name} cannot be {done}.")
    return group


def _users(call: Call, group: ParameterGroup) -> list[str]:
    """The cache clusters that use the group."""
    return [c.id for c in call.services.store.all(CacheCluster, call.region) if c.parameter_group == group.name]


def modify_cache_parameter_group(call: Call) -> present.Shape:
    """All values or none: each is checked before any is stored."""
    group = _own_group(call, call.params["CacheParameterGroupName"], "modified")
    refuse_copy(call, group)
    given = call.params["ParameterNameValues"]
    if not given:
        raise invalid_value("ParameterNameValues must name at least one parameter.")
    if len(given) > MOST_CHANGES:
        raise invalid_combination(f"Cannot modify more than {MOST_CHANGES} parameters in a single request")
    family = call.services.catalog.families[group.family]
    values = dict(group.values)
    for change in given:
        name, value = change.get("ParameterName"), change.get("ParameterValue")
        parameter = family.parameters.get(name or "")
        if parameter is None:
            raise invalid_value(f"The parameter {str(name)[:60]!r} does not exist in family {family.name}.")
        if value is None:
            raise invalid_value(f"The parameter {name} needs a value.")
        why = why_not_allowed(parameter, value)
        if why is not None:
            raise invalid_value(why)
        values[parameter.name] = value
        if value == parameter.default:
            del values[parameter.name]
    why = why_not_together(values)
    if why is not None:
        raise invalid_combination(why)
    _put(call, group, replace(group, values=values))
    return {"CacheParameterGroupName": group.name}


def _check_fixed(call: Call, old: ParameterGroup, new: ParameterGroup) -> None:
    """Some values a cache keeps for life. Only more databases are possible later, by a reboot; fewer lose keys."""
    family = call.services.catalog.families[old.family]
    defaults = {name: family.parameters[name].default for name in sorted(FIXED_IN_USE & family.parameters.keys())}
    changed = [n for n, default in defaults.items() if old.values.get(n, default) != new.values.get(n, default)]
    if choose.databases(call, new) > choose.databases(call, old):
        changed.remove("databases")
    users = _users(call, old) if changed else []
    if users:
        why = ": the keys of the databases that go would be lost" if changed[0] == "databases" else ""
        raise Fault(
            "InvalidCacheParameterGroupState",
            f"The parameter {changed[0]} cannot be modified this way while the parameter group {old.name} is in use by "
            f"{', '.join(users[:5])}{why}.",
        )


def _put(call: Call, old: ParameterGroup, new: ParameterGroup) -> None:
    _check_fixed(call, old, new)
    with call.services.store.transaction() as work:
        work.replace(old, new)
        fan_out(call, work, new)
        changed = sorted(n for n in {*old.values, *new.values} if old.values.get(n) != new.values.get(n))
        if changed:
            work.add_event(_event(call, new.name, f"Updated parameters {', '.join(changed)}"))


def reset_cache_parameter_group(call: Call) -> present.Shape:
    group = _own_group(call, call.params["CacheParameterGroupName"], "reset")
    refuse_copy(call, group)
    named = [entry.get("ParameterName") or "" for entry in call.params.get("ParameterNameValues") or []]
    everything = bool(call.flag("ResetAllParameters"))
    if everything == bool(named):
        raise invalid_combination("Use either ResetAllParameters or ParameterNameValues.")
    family = call.services.catalog.families[group.family]
    for name in named:
        if name not in family.parameters:
            raise invalid_value(f"The parameter {name[:60]!r} does not exist in family {family.name}.")
    values = {} if everything else {n: v for n, v in group.values.items() if n not in named}
    _put(call, group, replace(group, values=values))
    return {"CacheParameterGroupName": group.name}


def delete_cache_parameter_group(call: Call) -> present.Shape:
    group = _own_group(call, call.params["CacheParameterGroupName"], "deleted")
    users = _users(call, group)
    if users:
        raise Fault(
            "InvalidCacheParameterGroupState",
            f"One or more cache clusters are still members of this parameter group {group.name}, so the group cannot "
            f"be deleted; in use by {', '.join(users[:5])}.",
        )
    with call.services.store.transaction() as work:
        work.delete(group)
        work.add_event(_event(call, group.name, f"Deleted parameter group {group.name}"))
    return {}
