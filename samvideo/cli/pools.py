"""How commands distribute work over processes or a Ray cluster."""

from typing import TYPE_CHECKING, Any

from samvideo.cli.common import Command

if TYPE_CHECKING:
    from samvideo.evaluation.shard import Pool

RAY_HELP = (
    "Use this Ray cluster (auto: a running one), or start one on this machine. All nodes need the same files at "
    "the same paths."
)
WORKERS_HELP = "Processes, or actors on the Ray cluster [1; on a cluster, its GPUs or else cores]."
THREADS_HELP = "Threads of each worker."


class RayCommand(Command):
    """Allows `--ray` without a value, which typer's options do not."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Turn a `--ray` that is followed by nothing or by another option into `--ray=local`."""
        following = [*args[1:], "-"]
        completed = [
            "--ray=local" if a == "--ray" and b.startswith("-") else a
            for a, b in zip(args, following, strict=False)
        ]
        return super().parse_args(ctx, completed)


def ray_address(ray: str | None) -> str | None:
    """The address that `--ray` gives: None to start a cluster."""
    return None if ray == "local" else ray


def choose_pool(ray: str | None, workers: int | None) -> "Pool":
    """Where to run: in this process, in several, or on a Ray cluster."""
    from samvideo.evaluation.cluster import RayPool
    from samvideo.evaluation.shard import LocalPool, run_here

    if ray is not None:
        return RayPool(ray_address(ray), workers)
    return LocalPool(workers) if workers is not None and workers > 1 else run_here


def limit_threads(count: int | None) -> None:
    """Limit the libraries of this process, loaded or not; None does not."""
    from samvideo.evaluation.threads import limit_loaded, limit_unloaded

    if count is not None:
        limit_unloaded(count)
        limit_loaded(count)
