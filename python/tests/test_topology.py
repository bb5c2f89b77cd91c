"""Sentinel and Cluster: a failover while frames flow, and slots on other nodes."""

from __future__ import annotations

import asyncio
import pathlib
import shutil
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from conftest import SERVER, Server, free_port, picture, wait_for
from test_consumer import pending, put

import framepress
from framepress import AsyncProducer, Consumer, Producer

FRAME = picture(24, 32)


class Sentinel:
    """One Sentinel that watches `primary`, with a quorum of one."""

    def __init__(self, folder: pathlib.Path, primary: Server) -> None:
        program = shutil.which("redis-sentinel")
        if program is None:
            pytest.skip("skipped: there is no redis-sentinel")
        self.port = free_port()
        config = folder / "sentinel.conf"
        config.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {folder}\n"
            f"sentinel monitor fp 127.0.0.1 {primary.port} 1\n"
            "sentinel down-after-milliseconds fp 500\nsentinel failover-timeout fp 5000\n"
        )
        self.process = subprocess.Popen([program, str(config)], stdout=subprocess.DEVNULL)
        self.client = redis.Redis(port=self.port, protocol=2)
        self.url = f"redis-sentinel://127.0.0.1:1,127.0.0.1:{self.port}/fp"

    def knows_replica(self) -> bool:
        try:
            found: Any = self.client.execute_command("SENTINEL", "replicas", "fp")
        except redis.exceptions.RedisError:
            return False
        return len(found) == 1

    def stop(self) -> None:
        self.client.close()
        self.process.terminate()
        self.process.wait()


@pytest.fixture
def pair(tmp_path: pathlib.Path) -> Iterator[tuple[Server, Server, Sentinel]]:
    folders = [tmp_path / name for name in ("primary", "replica", "sentinel")]
    for folder in folders:
        folder.mkdir()
    primary = Server(folders[0])
    replica = Server(folders[1], "--replicaof", "127.0.0.1", str(primary.port))
    sentinel = Sentinel(folders[2], primary)
    wait_for("the Sentinel knows both", sentinel.knows_replica)

    def is_linked() -> bool:
        return bool(replica.client.info("replication")["master_link_status"] == "up")

    wait_for("the replica is linked", is_linked)
    yield primary, replica, sentinel
    for one in (sentinel, replica, primary):
        one.stop()


def test_a_failover_stops_neither_producer_nor_consumer(
    pair: tuple[Server, Server, Sentinel],
) -> None:
    primary, replica, sentinel = pair
    put(primary, "a", "b")
    wait_for("the replica has them", lambda: replica.client.xlen("processed_frames") == 2)
    with (
        Producer(sentinel.url, timeout=60) as producer,
        Consumer(sentinel.url, group="g", block_ms=100, idle_timeout=60) as results,
    ):
        producer.send(FRAME, "cam", frame_id="before")
        assert next(results).frame_id == "a"
        wait_for("the replica has the frame", lambda: replica.client.xlen("camera_frames") == 1)
        wait_for("and the group", lambda: pending(replica) == 2)
        assert primary.process is not None
        primary.process.kill()
        assert producer.send(FRAME, "cam", frame_id="after") is not None
        assert next(results).frame_id == "b"
        put(replica, "c")
        assert next(results).frame_id == "c"
        assert producer.counts.reconnects >= 1
    found: Any = replica.client.xrange("camera_frames")
    assert [fields[b"frame_id"] for _, fields in found] == [b"before", b"after"]
    assert pending(replica) == 0


def test_a_replaced_primary_is_left(pair: tuple[Server, Server, Sentinel]) -> None:
    """From then on it answers READONLY."""
    _, replica, sentinel = pair
    with Producer(sentinel.url, timeout=60) as producer:
        producer.send(FRAME, "cam", frame_id="before")
        wait_for("the replica has the frame", lambda: replica.client.xlen("camera_frames") == 1)
        sentinel.client.execute_command("SENTINEL", "failover", "fp")

        def is_primary() -> bool:
            return bool(replica.client.info("replication")["role"] == "master")

        wait_for("the replica is the primary", is_primary)
        count = 0

        def arrives() -> bool:
            nonlocal count
            count += 1
            producer.send(FRAME, "cam", frame_id=f"{count}")
            found: Any = replica.client.xrevrange("camera_frames", count=1)
            return bool(found and found[0][1][b"frame_id"].decode() == f"{count}")

        wait_for("frames reach the new primary", arrives)


@pytest.fixture
def cluster(tmp_path: pathlib.Path) -> Iterator[tuple[Server, Server]]:
    """Two nodes, each with half of the slots."""
    nodes = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        nodes.append(Server(tmp_path / name, "--cluster-enabled", "yes"))
    first, second = nodes
    first.client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 8191)
    second.client.execute_command("CLUSTER", "ADDSLOTSRANGE", 8192, 16383)
    first.client.execute_command("CLUSTER", "MEET", "127.0.0.1", second.port)

    def is_ready() -> bool:
        texts: list[Any] = [node.client.execute_command("CLUSTER INFO") for node in nodes]
        return all("ok" in str(text).partition("cluster_state")[2][:8] for text in texts)

    try:
        wait_for("the cluster is there", is_ready)
        yield first, second
    finally:
        for node in nodes:
            node.stop()


def shard_streams(node: Server) -> set[str]:
    found: Any = node.client.keys("camera_frames:*")
    return {key.decode() for key in found}


def test_a_cluster_is_reached_by_any_node(cluster: tuple[Server, Server]) -> None:
    first, second = cluster
    url = f"redis-cluster://127.0.0.1:1,127.0.0.1:{first.port}"
    with Producer(url, shards=4) as producer:
        for number in range(40):
            producer.send(FRAME, f"cam{number}", frame_id=f"{number}")
        assert producer.counts.sent == 40

    async def main() -> None:
        async with AsyncProducer(url, shards=4) as sender:
            for number in range(40):
                await sender.send(FRAME, f"cam{number}", frame_id=f"async-{number}")

    asyncio.run(main())
    on_first, on_second = shard_streams(first), shard_streams(second)
    assert on_first
    assert on_second
    assert on_first | on_second == {f"camera_frames:{{{shard}}}" for shard in range(4)}
    total = sum(node.client.xlen(stream) for node in cluster for stream in shard_streams(node))
    assert total == 80


def test_results_of_all_shards_are_read_from_a_cluster(cluster: tuple[Server, Server]) -> None:
    first, second = cluster
    where = {}
    for shard in range(3):
        stream = f"processed_frames:{{{shard}}}"
        slot: Any = first.client.execute_command("CLUSTER", "KEYSLOT", stream)
        where[stream] = first if slot < 8192 else second
        put(where[stream], f"{shard}-a", f"{shard}-bad", stream=stream)
    assert len(set(where.values())) == 2
    url = f"redis-cluster://127.0.0.1:{second.port}"
    settings: dict[str, Any] = {"group": "g", "shards": 3, "block_ms": 30, "idle_timeout": 1}
    names = []
    with Consumer(url, **settings) as results:
        for result in results:
            names.append(result.frame_id)
            if result.frame_id.endswith("bad"):
                results.reject(result)
    assert sorted(names) == ["0-a", "0-bad", "1-a", "1-bad", "2-a", "2-bad"]
    for stream, node in where.items():
        assert pending(node, stream) == 0
        assert node.client.xlen(f"{stream}:dlq") == 1


def test_a_slot_may_move_while_frames_flow(cluster: tuple[Server, Server]) -> None:
    first, second = cluster
    slot: Any = first.client.execute_command("CLUSTER", "KEYSLOT", "camera_frames")
    source, target = (first, second) if slot < 8192 else (second, first)

    def name(node: Server) -> str:
        found: Any = node.client.execute_command("CLUSTER", "MYID")
        return found.decode() if isinstance(found, bytes) else str(found)

    with Producer(f"redis-cluster://127.0.0.1:{first.port}", timeout=30) as producer:
        # The key is migrating and not moved yet: ASK.
        target.client.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", name(source))
        source.client.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", name(target))
        for number in range(5):
            producer.send(FRAME, "cam", frame_id=f"{number}")
        for node in (target, source):
            node.client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", name(target))
        # The key has moved: MOVED.
        for number in range(5, 10):
            producer.send(FRAME, "cam", frame_id=f"{number}")
        assert producer.counts.sent == 10
    found: Any = target.client.xrange("camera_frames")
    assert [fields[b"frame_id"].decode() for _, fields in found] == [f"{n}" for n in range(10)]


def test_a_cluster_that_is_away_is_waited_for(cluster: tuple[Server, Server]) -> None:
    first, second = cluster
    urls = ",".join(f"127.0.0.1:{node.port}" for node in cluster)
    with Producer(f"redis-cluster://{urls}", timeout=0.5, shards=4) as producer:
        producer.send(FRAME, "cam")
        first.stop()
        second.stop()
        with pytest.raises(framepress.RedisUnavailable):
            producer.send(FRAME, "cam")
        threads = [threading.Thread(target=node.start) for node in cluster]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        def goes_on() -> bool:
            try:
                return producer.send(FRAME, "cam") is not None
            except framepress.RedisUnavailable:
                return False

        wait_for("it goes on", goes_on)


def test_a_server_program_is_named_by_the_environment() -> None:
    assert shutil.which(SERVER)
