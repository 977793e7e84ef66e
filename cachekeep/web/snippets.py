"""How clients of five languages connect to a cache: texts for the group's page. Pure."""

from __future__ import annotations

from collections.abc import Mapping

_PYTHON = "# pip install valkey\nimport valkey\n\n"
_NODE = '// npm install ioredis\nconst Redis = require("ioredis");\n\n'
_GO = '// go get github.com/redis/go-redis/v9\nimport "github.com/redis/go-redis/v9"\n\n'

_SINGLE = {
    "Python (valkey-py)": _PYTHON + 'cache = valkey.Valkey(host="{host}", port={port})\ncache.ping()\n',
    "Node.js (ioredis)": _NODE + 'const cache = new Redis({port}, "{host}");\nawait cache.ping();\n',
    "Java (Jedis)": "// redis.clients:jedis\nimport redis.clients.jedis.JedisPooled;\n\n"
    'JedisPooled cache = new JedisPooled("{host}", {port});\ncache.ping();\n',
    "Go (go-redis)": _GO + 'cache := redis.NewClient(&redis.Options{{Addr: "{host}:{port}"}})\ncache.Ping(ctx)\n',
    "PHP (phpredis)": "$cache = new Redis();\n$cache->connect('{host}', {port});\n$cache->ping();\n",
}
_CLUSTER = {
    "Python (valkey-py)": _PYTHON + 'cache = valkey.ValkeyCluster(host="{host}", port={port})\ncache.ping()\n',
    "Node.js (ioredis)": _NODE + 'const cache = new Redis.Cluster([{{ host: "{host}", port: {port} }}]);\n'
    "await cache.ping();\n",
    "Java (Jedis)": "// redis.clients:jedis\nimport redis.clients.jedis.*;\n\n"
    'JedisCluster cache = new JedisCluster(new HostAndPort("{host}", {port}));\ncache.set("key", "value");\n',
    "Go (go-redis)": _GO + "cache := redis.NewClusterClient(&redis.ClusterOptions{{\n"
    '\tAddrs: []string{{"{host}:{port}"}},\n}})\ncache.Ping(ctx)\n',
    "PHP (phpredis)": "$cache = new RedisCluster(null, ['{host}:{port}']);\n$cache->set('key', 'value');\n",
}
_MEMCACHED = {
    "Python (pymemcache)": "# pip install pymemcache\nfrom pymemcache.client.base import Client\n\n"
    'cache = Client(("{host}", {port}))\ncache.get("key")\n',
    "Node.js (memjs)": '// npm install memjs\nconst memjs = require("memjs");\n\n'
    'const cache = memjs.Client.create("{host}:{port}");\nawait cache.get("key");\n',
    "Java (spymemcached)": "// net.spy:spymemcached\nimport net.spy.memcached.MemcachedClient;\n\n"
    'MemcachedClient cache = new MemcachedClient(new InetSocketAddress("{host}", {port}));\ncache.get("key");\n',
    "Go (gomemcache)": '// go get github.com/bradfitz/gomemcache\nimport "github.com/bradfitz/gomemcache/memcache"\n\n'
    'cache := memcache.New("{host}:{port}")\ncache.Get("key")\n',
    "PHP (memcached)": "$cache = new Memcached();\n$cache->addServer('{host}', {port});\n$cache->get('key');\n",
}


def snippets(endpoint: str, *, clustered: bool = False, memcached: bool = False) -> Mapping[str, str]:
    """Texts by language. endpoint: HOST:PORT."""
    host, _, port = endpoint.rpartition(":")
    texts = _MEMCACHED if memcached else _CLUSTER if clustered else _SINGLE
    return {language: text.format(host=host.strip("[]"), port=port) for language, text in texts.items()}
