from cachekeep.codec.info import count_keys, parse_info

TEXT = (
    "# Server\r\nredis_version:7.2.4\r\nvalkey_version:9.1.2\r\n\r\n# Replication\r\nmaster_host:::1\r\n"
    "executable:/opt/a:b/valkey-server\r\nempty:\r\n# Keyspace\r\ndb0:keys=7,expires=0,avg_ttl=0\r\n"
    "db15:keys=3,expires=1\r\n"
)


def test_value_keeps_its_colons() -> None:
    info = parse_info(TEXT)
    assert info["master_host"] == "::1"
    assert info["executable"] == "/opt/a:b/valkey-server"
    assert info["empty"] == ""
    assert info["valkey_version"] == "9.1.2"


def test_keys_of_all_databases_are_counted() -> None:
    assert count_keys(parse_info(TEXT)) == 10
    assert count_keys(parse_info("dbsize:1\ndb_x:keys=4\n")) == 0
    assert parse_info("") == {}
