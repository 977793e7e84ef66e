"""The service's own user in its engines: its password as kept, or a new one where no living engine knows another."""

from __future__ import annotations

from pathlib import Path

from cachekeep import credentials
from cachekeep.domain.access import EngineLogin
from cachekeep.domain.cache_cluster import CacheCluster
from cachekeep.domain.ports import Store
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.host.local import LocalHost


def own_login(state_dir: Path, store: Store) -> EngineLogin:
    """Raises credentials.CredentialsError, also when the password is gone while guarded engines run.

    They would let nobody in who comes with a new one, and could then be neither saved nor kept. Open ones are told of
    it, and what does not run starts with it.
    """
    path = state_dir / credentials.ENGINE_PASSWORD_FILE
    if not path.exists() and (running := _guarded_and_running(state_dir, store)):
        raise credentials.CredentialsError(
            f"{path} is missing, and {len(running)} engines that users or tokens guard let nobody else in, such as "
            f"{running[0]}: put the file back; or end those processes, and what they hold is lost"
        )
    return EngineLogin(credentials.load_or_create_engine_password(state_dir))


def _guarded_and_running(state_dir: Path, store: Store) -> list[str]:
    groups = {(group.region, group.id): group for group in store.all(ReplicationGroup)}
    guarded = []
    for cluster in store.all(CacheCluster):
        owner = groups.get((cluster.region, cluster.replication_group_id or ""), cluster)
        mirrored = isinstance(owner, ReplicationGroup) and owner.clustered and bool(owner.global_id)
        if owner.user_group_ids or owner.auth_tokens or mirrored:  # a mirrored one may be closed for writes
            guarded += [cluster.key(node) for node in cluster.nodes]
    if not guarded:
        return []
    host = LocalHost(state_dir / "nodes")
    try:
        return [str(key) for key in guarded if host.find(key) is not None]
    finally:
        host.close()
