"""Whether as many processes run as `accelerate launch` was asked for; it starts one where it cannot start several."""

import os
from collections.abc import Sequence
from pathlib import Path

_PROGRAMS = ("accelerate-launch", "accelerate.commands.launch")
_GROUPS = ("accelerate", "accelerate_cli", "accelerate.commands.accelerate_cli")  # `launch` follows
_SIZES = ["WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE"]  # as accelerate reads them


def check_processes() -> None:
    """Refuses to train with fewer processes than the launcher was asked for.

    Without GPUs, `accelerate launch --num_processes 2` starts one process and says nothing.

    Raises:
        ValueError: Saying how many were asked for, how many run, and how to launch them.
    """
    from accelerate.utils import get_int_from_env

    running, asked = get_int_from_env(_SIZES, 1), count_asked(read_parent())
    if asked is not None and asked > running:
        verb = "runs" if running == 1 else "run"
        raise ValueError(
            f"accelerate launch was asked for {asked} processes, but {running} {verb}: on a CPU it starts several "
            "only with --config_file recipes/accelerate/cpu2.yaml, on GPUs only if there are several "
            f"(recipes/accelerate/multi_gpu.yaml); launch with one of these, or with --num_processes {running}"
        )


def count_asked(command: Sequence[str]) -> int | None:
    """Returns how many processes a command line asks `accelerate launch` for, by itself or by a configuration.

    Args:
        command: Words of a command line.

    Returns:
        The number; None if it is another program's, or if accelerate was left to choose.

    Example:
        ```python
        count_asked(["accelerate", "launch", "--num_processes", "2", "recipes/pretrain_series.py"])  # 2
        ```
    """
    words = find_launch_words(command)
    if words is None:
        return None
    from accelerate.commands.config.config_args import default_config_file, load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    args = launch_command_parser().parse_args(words)
    if args.num_processes is not None:
        return int(args.num_processes)
    file = args.config_file or (None if args.cpu or not os.path.isfile(default_config_file) else default_config_file)
    return None if file is None else int(load_config_from_file(file).num_processes)


def find_launch_words(command: Sequence[str]) -> list[str] | None:
    """Returns what stands behind `accelerate launch` in a command line; None if it is another program's.

    >>> find_launch_words(["python", "-m", "accelerate.commands.launch", "--cpu", "train.py"])
    ['--cpu', 'train.py']
    >>> find_launch_words(["python", "train.py"])
    """
    for k, word in enumerate(command[:4]):
        name = Path(word).name.removesuffix(".exe").removesuffix(".py")
        if name in _PROGRAMS:
            return list(command[k + 1 :])
        if name in _GROUPS and list(command[k + 1 : k + 2]) == ["launch"]:
            return list(command[k + 2 :])
    return None


def read_parent() -> list[str]:
    """Returns the command line of the process that started this one; empty if it cannot be read."""
    import psutil

    try:
        parent = psutil.Process().parent()
        return parent.cmdline() if parent is not None else []
    except psutil.Error:
        return []
