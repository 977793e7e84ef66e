from cachekeep.domain.nodes import Address, Role
from cachekeep.engine.facts import facts_of_engine, facts_of_memcached

REPLICA = {
    "redis_version": "7.2.4",
    "valkey_version": "8.1.8",
    "role": "slave",
    "master_host": "127.64.0.1",
    "master_port": "6379",
    "master_link_status": "up",
    "master_sync_in_progress": "0",
    "slave_read_repl_offset": "120",
    "slave_repl_offset": "100",
    "master_repl_offset": "100",
    "db0": "keys=4,expires=0",
}


def test_replica_counts_what_it_applied_and_not_what_it_received() -> None:
    facts = facts_of_engine(REPLICA, {"bind": "127.64.0.2 127.64.1.1", "maxmemory": "0"})
    assert (facts.role, facts.offset, facts.link_up) == (Role.REPLICA, 100, True)
    assert facts.primary == Address("127.64.0.1", 6379)
    assert facts.binds == ("127.64.0.2", "127.64.1.1")
    assert (facts.version, facts.keys, facts.config) == ("8.1.8", 4, {"maxmemory": "0"})


def test_link_is_not_up_while_the_first_synchronisation_runs() -> None:
    facts = facts_of_engine(REPLICA | {"master_sync_in_progress": "1"}, {})
    assert (facts.link_up, facts.syncing) == (False, True)


def test_primary_follows_nobody() -> None:
    facts = facts_of_engine({"redis_version": "6.2.5", "role": "master", "master_repl_offset": "7"}, {})
    assert (facts.version, facts.role, facts.offset, facts.primary) == ("6.2.5", Role.PRIMARY, 7, None)
    assert not facts.link_up


def test_memcached_fields_have_names_of_their_own() -> None:
    stats = {"version": "1.6.18", "pid": "42", "bytes": "9", "limit_maxbytes": "64", "curr_items": "2"}
    facts = facts_of_memcached(stats, {"inter": "127.64.0.3", "maxconns": "10"}, ["maxconns", "unknown"])
    assert (facts.run_id, facts.used_memory_bytes, facts.maxmemory_bytes, facts.keys) == ("42", 9, 64, 2)
    assert (facts.binds, facts.config) == (("127.64.0.3",), {"maxconns": "10"})


def test_databases_and_replicas_that_are_not_there_yet() -> None:
    info = {
        "role": "master",
        "slave0": "ip=127.64.0.2,port=6379,state=online,offset=1,lag=0",
        "slave1": "ip=127.64.0.3,port=6379,state=wait_bgsave,offset=0,lag=0",
        "slave_read_only": "1",
        "db10": "keys=1,expires=0",
        "db2": "keys=4,expires=0",
        "db3": "keys=0,expires=0",
        "unexpected_error_replies": "7",
    }
    facts = facts_of_engine(info, {})
    assert (facts.databases_used, facts.replicas_waiting, facts.unexpected_errors) == ((2, 10), 1, 7)
    assert facts.cluster is None
