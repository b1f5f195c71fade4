"""Free memory, and how many images of a size go through at once."""

import torch

from dcond import device as memory
from dcond.device import even_chunks, free_bytes, scaled_batch_size
from dcond.distributed import Ranks, use_group
from dcond.matching.engine import Engine
from dcond.models import ConvNet, Timm
from dcond.types import ImageSpec

GIB = 2**30


def test_settings_count_images_of_up_to_64_pixels():
    assert [scaled_batch_size(256, side, side) for side in (8, 32, 64, 128, 224)] == [
        256,
        256,
        256,
        64,
        20,
    ]
    assert scaled_batch_size(1, 224, 224) == 1


def test_images_that_a_network_enlarges_count_at_its_size():
    spec = ImageSpec(3, 32, 32, 10, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    network = Timm(name="T", architecture="test_vit").build(spec, torch.Generator())
    assert network.input_side == 160
    assert scaled_batch_size(256, 32, 32, network) == scaled_batch_size(256, 160, 160) == 40
    assert scaled_batch_size(256, 320, 320, network) == scaled_batch_size(256, 320, 320)
    pair = [network, ConvNet(name="C").build(spec, torch.Generator())]
    assert [Engine(chunk=256)._chunk(own, spec) for own in (pair, pair[1:])] == [40, 256]


def test_chunks_are_even():
    sizes = [len(part) for part in even_chunks(torch.zeros(130, 1), 64)]
    assert sizes == [44, 44, 42]
    assert [len(part) for part in even_chunks(torch.zeros(3, 1), 0)] == [1, 1, 1]


def machine(monkeypatch, tmp_path, available_kb: int) -> None:
    (tmp_path / "meminfo").write_text(f"MemTotal: 99 kB\nMemAvailable:   {available_kb} kB\n")
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "OWN_CGROUP", tmp_path / "own")
    (tmp_path / "own").write_text("5:cpu:/x\n0::/job/step\n")
    (tmp_path / "cgroup/job/step").mkdir(parents=True)


def limit(folder, most, used: int, cached: int, shared: int = 0) -> None:
    (folder / "memory.max").write_text(f"{most}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\nfile {cached}\nshmem {shared}\n")


def test_free_memory_is_the_machines_or_what_a_control_group_leaves(monkeypatch, tmp_path):
    machine(monkeypatch, tmp_path, 8 * 2**20)
    cpu = torch.device("cpu")
    assert free_bytes(cpu) == 8 * GIB
    with use_group(Ranks(rank=3, count=8, local_rank=3, local_count=4)):  # share a machine
        assert free_bytes(cpu) == 2 * GIB
    limit(tmp_path / "cgroup/job/step", "max", GIB, 0)
    assert free_bytes(cpu) == 8 * GIB
    limit(
        tmp_path / "cgroup/job", 4 * GIB, 3 * GIB, 2 * GIB
    )  # files that the kernel keeps at hand are not used up
    assert free_bytes(cpu) == 3 * GIB
    limit(
        tmp_path / "cgroup/job", 4 * GIB, 3 * GIB, 2 * GIB, GIB
    )  # but those of a tmpfs are nowhere else
    assert free_bytes(cpu) == 2 * GIB
    limit(tmp_path / "cgroup/job", GIB, 2 * GIB, 0)
    assert free_bytes(cpu) == 0


def test_control_groups_of_version_1_count_too(monkeypatch, tmp_path):
    machine(monkeypatch, tmp_path, 8 * 2**20)
    (tmp_path / "own").write_text("5:cpu:/x\n4:memory:/slurm/job\n")
    folder = tmp_path / "cgroup/memory/slurm/job"
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text(f"{4 * GIB}\n")
    (folder / "memory.usage_in_bytes").write_text(f"{3 * GIB}\n")
    (folder / "memory.stat").write_text(f"cache 1\ntotal_cache {2 * GIB}\ntotal_shmem {GIB}\n")
    assert free_bytes(torch.device("cpu")) == 2 * GIB


def test_a_kernel_that_does_not_say_what_is_available(monkeypatch, tmp_path):
    machine(monkeypatch, tmp_path, 0)
    (tmp_path / "meminfo").write_text(f"MemTotal: 99 kB\nMemFree:   {2**20} kB\n")
    assert free_bytes(torch.device("cpu")) == GIB


def test_without_proc_nothing_is_known(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "none")
    assert free_bytes(torch.device("cpu")) is None
